// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs that send frames elsewhere, to the device in the map `target`, and what a frame carries on its way. */
#include "netkit.h"

#ifndef AF_INET
#define AF_INET 2
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

static __always_inline __u32 ifindex(void)
{
	__u32 key = 0, *value = bpf_map_lookup_elem(&target, &key);

	return value ? *value : 0;
}

SEC("netkit/primary")
int to_egress(struct __sk_buff *skb)
{
	return bpf_redirect(ifindex(), 0);
}

SEC("netkit/primary")
int to_ingress(struct __sk_buff *skb)
{
	return bpf_redirect(ifindex(), BPF_F_INGRESS);
}

SEC("netkit/primary")
int to_peer(struct __sk_buff *skb)
{
	return bpf_redirect_peer(ifindex(), 0);
}

SEC("netkit/primary")
int to_neighbour(struct __sk_buff *skb)
{
	return bpf_redirect_neigh(ifindex(), NULL, 0, 0);
}

/* Sends a copy, and lets the frame go on. */
SEC("netkit/primary")
int copy(struct __sk_buff *skb)
{
	bpf_clone_redirect(skb, ifindex(), 0);
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int copy_to_ingress(struct __sk_buff *skb)
{
	bpf_clone_redirect(skb, ifindex(), BPF_F_INGRESS);
	return NETKIT_NEXT;
}

/* Forwards an IPv4 packet as a router does; the result of a lookup that fails goes into the TTL. */
SEC("netkit/primary")
int route(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct bpf_fib_lookup fib = {};
	struct ethhdr *eth = data;
	struct iphdr *ip = data + ETH_HLEN;
	long result;

	if ((void *)(ip + 1) > end)
		return NETKIT_DROP;
	fib.family = AF_INET;
	fib.l4_protocol = ip->protocol;
	fib.tot_len = bpf_ntohs(ip->tot_len);
	fib.ifindex = skb->ifindex;
	fib.ipv4_src = ip->saddr;
	fib.ipv4_dst = ip->daddr;
	result = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (result) {
		ip->ttl = result;
		return NETKIT_PASS;
	}
	__builtin_memcpy(eth->h_dest, fib.dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, fib.smac, ETH_ALEN);
	return bpf_redirect(fib.ifindex, 0);
}

SEC("netkit/primary")
int set_metadata(struct __sk_buff *skb)
{
	skb->mark = 0x11;
	skb->priority = 0x22;
	skb->cb[0] = 0x33;
	skb->cb[4] = 0x44;
	return NETKIT_NEXT;
}

/* Writes what it sees behind the Ethernet header. */
SEC("netkit/primary")
int show_metadata(struct __sk_buff *skb)
{
	__be32 seen[] = {
		bpf_htonl(skb->mark), bpf_htonl(skb->priority), bpf_htonl(skb->cb[0]), bpf_htonl(skb->cb[4]),
		bpf_htonl(skb->ifindex), bpf_htonl(skb->ingress_ifindex), bpf_htonl(skb->pkt_type),
	};

	bpf_skb_store_bytes(skb, ETH_HLEN, seen, sizeof(seen), 0);
	return NETKIT_NEXT;
}
