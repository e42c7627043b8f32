/* SPDX-License-Identifier: Apache-2.0 */
/* What benches/engine.rs measures. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ACTION_NEXT -1
#define ACTION_DROP 2

struct flow {
	__u32 source;
	__u32 destination;
	__u16 source_port;
	__u16 destination_port;
	__u8 protocol;
	__u8 zero[3];
};

struct verdict {
	__u64 packets;
	__u64 octets;
	__u32 action;
	__u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow);
	__type(value, struct verdict);
	__uint(max_entries, 8192);
} flows SEC(".maps");

/* Returns at once. */
SEC("tc")
int empty(struct __sk_buff *skb)
{
	return ACTION_NEXT;
}

/* The headers of a TCP segment; 0 if the frame holds none. */
static __always_inline int parse_headers(struct __sk_buff *skb, struct iphdr **ip, struct tcphdr **tcp)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;

	if ((void *)(ethernet + 1) > end || skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	*ip = (void *)(ethernet + 1);
	if ((void *)(*ip + 1) > end || (*ip)->version != 4 || (*ip)->protocol != IPPROTO_TCP)
		return 0;
	*tcp = (void *)*ip + (*ip)->ihl * 4;
	return (void *)(*tcp + 1) <= end;
}

/* Looks the flow of a TCP segment up, counts it and does as the table says. */
SEC("tc")
int filter(struct __sk_buff *skb)
{
	struct iphdr *ip;
	struct tcphdr *tcp;

	if (!parse_headers(skb, &ip, &tcp))
		return ACTION_NEXT;
	/* Later fragments have no ports. */
	if (ip->frag_off & bpf_htons(0x1fff))
		return ACTION_DROP;
	struct flow flow = {
		.source = ip->saddr,
		.destination = ip->daddr,
		.source_port = tcp->source,
		.destination_port = tcp->dest,
		.protocol = ip->protocol,
	};
	struct verdict *verdict = bpf_map_lookup_elem(&flows, &flow);

	if (!verdict)
		return ACTION_DROP;
	verdict->packets++;
	verdict->octets += skb->len;
	return verdict->action;
}

/* Reads what a filter of TCP segments looks at. */
SEC("tc")
int parse(struct __sk_buff *skb)
{
	struct iphdr *ip;
	struct tcphdr *tcp;

	if (!parse_headers(skb, &ip, &tcp))
		return ACTION_DROP;
	return (ip->saddr ^ ip->daddr) + (tcp->source ^ tcp->dest) + tcp->seq + tcp->window;
}

/* Sums the frame's octets, one at a time. */
SEC("tc")
int octets(struct __sk_buff *skb)
{
	__u8 *octet = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 sum = 0;

#pragma clang loop unroll(disable) vectorize(disable)
	for (int i = 0; i < 1500; i++) {
		if (octet + 1 > end)
			break;
		sum += *octet++;
	}
	return sum;
}

/* Long, and without a loop. */
SEC("tc")
int straight(struct __sk_buff *skb)
{
	volatile __u8 *octets = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 sum = skb->len;

	if (octets + 60 > end)
		return ACTION_DROP;
#pragma clang loop unroll(full)
	for (int i = 0; i < 206; i++) {
		sum ^= octets[i % 60] << (i % 8);
		if (sum & (1 << i % 31))
			sum = sum * 31 + octets[(i + 7) % 60];
	}
	return sum;
}

/* Reads from where nothing is, which the kernel does not let pass. */
SEC("tc")
int stray(struct __sk_buff *skb)
{
	return *(volatile __u32 *)(long)skb->mark;
}

char _license[] SEC("license") = "Apache-2.0";
