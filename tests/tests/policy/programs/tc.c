// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs that a kernel without netkit takes, too: for running them there and here on the same frames. */
#include "netkit.h"

#include <stddef.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct flow);
	__type(value, __u64);
} flows SEC(".maps");

/* Counts flows, and answers with a number that follows from the packet. */
SEC("tc")
int classify(struct __sk_buff *skb)
{
	struct headers headers;
	__u64 one = 1, *count;
	int result;

	pull_headers(skb);
	result = parse_headers(skb, &headers);
	if (result)
		return result < 0 ? 1000 : 2000;
	count = bpf_map_lookup_elem(&flows, &headers.flow);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&flows, &headers.flow, &one, BPF_NOEXIST);
	return headers.flow.protocol << 16 | bpf_ntohs(headers.flow.destination_port);
}

/* Lowers the TTL, changes a port, and puts a tag and an octet of room in. */
SEC("tc")
int change(struct __sk_buff *skb)
{
	__u32 ttl = ETH_HLEN + offsetof(struct iphdr, ttl), checksum = ETH_HLEN + offsetof(struct iphdr, check);
	__be16 old, new;
	__u8 octets[2];

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, ttl, octets, sizeof(octets)))
		return 7;
	__builtin_memcpy(&old, octets, sizeof(old));
	octets[0]--;
	__builtin_memcpy(&new, octets, sizeof(new));
	bpf_l3_csum_replace(skb, checksum, old, new, sizeof(new));
	bpf_skb_store_bytes(skb, ttl, octets, sizeof(octets), BPF_F_RECOMPUTE_CSUM);
	if (bpf_skb_change_tail(skb, skb->len + 13, 0))
		return 8;
	if (bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 99))
		return 9;
	skb->mark = skb->len;
	skb->priority = skb->vlan_tci;
	return skb->len;
}

/* What needs no octet of the frame. */
SEC("tc")
int arithmetic(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;
	__u32 value = -skb->len;

	for (int round = 0; round < 20; round++)
		mark = (mark ^ (mark << 13)) + round;
	skb->cb[0] = mark;
	skb->cb[1] = value / 7;
	skb->mark = mark >> 3;
	return mark ^ value;
}
