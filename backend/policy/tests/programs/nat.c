// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Rewrites addresses and ports, and mends checksums with each helper that there is for it. */
#include "program.h"

__s64 found[32];

#define ADDRESS bpf_htonl(0xcb007107)
#define PORT bpf_htons(40000)
#define IP_CHECK (ETH_HLEN + offsetof(struct iphdr, check))
#define SOURCE (ETH_HLEN + offsetof(struct iphdr, saddr))
#define TRANSPORT (ETH_HLEN + sizeof(struct iphdr))

static __always_inline int protocol_of(struct __sk_buff *skb)
{
	__u8 protocol;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, protocol), &protocol, 1))
		return -1;
	return protocol;
}

PROGRAM(replace)
{
	__be32 address, new_address = ADDRESS;
	__be16 port, new_port = PORT;
	int protocol = protocol_of(skb), check = TRANSPORT, flags = 0;

	if (protocol == IPPROTO_TCP)
		check += offsetof(struct tcphdr, check);
	else if (protocol == IPPROTO_UDP)
		check += offsetof(struct udphdr, check), flags = BPF_F_MARK_MANGLED_0;
	else
		return TC_ACT_SHOT;
	if (bpf_skb_load_bytes(skb, SOURCE, &address, 4) || bpf_skb_load_bytes(skb, TRANSPORT, &port, 2))
		return TC_ACT_SHOT;
	found[0] = bpf_l4_csum_replace(skb, check, address, new_address, BPF_F_PSEUDO_HDR | flags | 4);
	found[1] = bpf_l4_csum_replace(skb, check, port, new_port, flags | 2);
	found[2] = bpf_l3_csum_replace(skb, IP_CHECK, address, new_address, 4);
	found[3] = bpf_skb_store_bytes(skb, SOURCE, &new_address, 4, 0);
	found[4] = bpf_skb_store_bytes(skb, TRANSPORT, &new_port, 2, 0);
	return TC_ACT_OK;
}

/* The same by differences. */
PROGRAM(differences)
{
	__be32 from[2] = {}, to[2] = { ADDRESS, 0 };
	int protocol = protocol_of(skb);
	__s64 difference;

	if (protocol != IPPROTO_UDP || bpf_skb_load_bytes(skb, SOURCE, from, 4))
		return TC_ACT_SHOT;
	difference = bpf_csum_diff(from, 4, to, 4, 0);
	found[5] = difference;
	found[6] = bpf_l3_csum_replace(skb, IP_CHECK, 0, difference, 0);
	found[7] = bpf_l4_csum_replace(skb, TRANSPORT + offsetof(struct udphdr, check), 0, difference,
				       BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
	found[8] = bpf_skb_store_bytes(skb, SOURCE, to, 4, BPF_F_RECOMPUTE_CSUM);
	return TC_ACT_OK;
}

PROGRAM(sums)
{
	__u32 words[8] = { 1, 0xffffffff, 0x12345678, 0, 0x80000000, 7, 0xfeedbeef, 9 };
	int at = 9;

	bpf_skb_load_bytes(skb, 0, words, 16);
	found[at++] = bpf_csum_diff(0, 0, words, 32, 0);
	found[at++] = bpf_csum_diff(words, 32, 0, 0, 0);
	found[at++] = bpf_csum_diff(words, 16, words + 4, 16, 0x1234);
	found[at++] = bpf_csum_diff(words, 4, words + 4, 16, 0xffffffff);
	found[at++] = bpf_csum_diff(0, 0, words, 0, 55);
	found[at++] = bpf_csum_update(skb, 5);
	found[at++] = bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY);
	found[at++] = bpf_csum_level(skb, BPF_CSUM_LEVEL_INC);
	found[at++] = bpf_l3_csum_replace(skb, skb->len, 1, 2, 2);
	found[at++] = bpf_l3_csum_replace(skb, 15, 1, 2, 2);
	found[at++] = bpf_l3_csum_replace(skb, 14, 1, 2, 3);
	found[at++] = bpf_l3_csum_replace(skb, 14, 1, 2, 0x100);
	found[at++] = bpf_l4_csum_replace(skb, 0xffff0, 1, 2, 2);
	found[at++] = bpf_l4_csum_replace(skb, 14, 1, 2, 0);
	found[at++] = bpf_l4_csum_replace(skb, 14, 1, 2, 1 << 12);
	return at;
}
