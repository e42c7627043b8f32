// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Outer headers around IPv4 packets, and off them: IPIP, GRE and a UDP tunnel with an Ethernet frame in it. */
#include "program.h"

__s64 found[16];

struct gre {
	__be16 flags, protocol;
};

struct vxlan {
	__be32 flags, network;
};

static __always_inline void outer(struct iphdr *ip, __u8 protocol, __u16 len)
{
	__u32 sum = 0;

	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(len);
	ip->ttl = 64;
	ip->protocol = protocol;
	ip->saddr = bpf_htonl(0xac100001);
	ip->daddr = bpf_htonl(0xac100002);
	sum = bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~((sum & 0xffff) + (sum >> 16));
}

PROGRAM(encapsulate_ipip)
{
	struct iphdr ip;

	outer(&ip, IPPROTO_IPIP, skb->len - ETH_HLEN + sizeof(ip));
	found[0] = bpf_skb_adjust_room(skb, sizeof(ip), BPF_ADJ_ROOM_MAC,
				       BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4);
	if (found[0])
		return TC_ACT_SHOT;
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_INVALIDATE_HASH);
}

PROGRAM(decapsulate_ipip)
{
	found[1] = bpf_skb_adjust_room(skb, -(int)sizeof(struct iphdr), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	return found[1] ? TC_ACT_SHOT : TC_ACT_OK;
}

PROGRAM(encapsulate_gre)
{
	struct {
		struct iphdr ip;
		struct gre gre;
	} headers;

	outer(&headers.ip, IPPROTO_GRE, skb->len - ETH_HLEN + sizeof(headers));
	headers.gre.flags = 0;
	headers.gre.protocol = bpf_htons(ETH_P_IP);
	found[2] = bpf_skb_adjust_room(skb, sizeof(headers), BPF_ADJ_ROOM_MAC,
				       BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
					       BPF_F_ADJ_ROOM_ENCAP_L4_GRE);
	if (found[2])
		return TC_ACT_SHOT;
	return bpf_skb_store_bytes(skb, ETH_HLEN, &headers, sizeof(headers), BPF_F_INVALIDATE_HASH);
}

PROGRAM(encapsulate_vxlan)
{
	struct {
		struct iphdr ip;
		struct udphdr udp;
		struct vxlan vxlan;
		struct ethhdr inner;
	} __attribute__((packed)) headers = {};
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, 0, &headers.inner, sizeof(headers.inner)))
		return TC_ACT_SHOT;
	outer(&ip, IPPROTO_UDP, skb->len - ETH_HLEN + sizeof(headers));
	headers.ip = ip;
	headers.udp.source = bpf_htons(50000);
	headers.udp.dest = bpf_htons(4789);
	headers.udp.len = bpf_htons(skb->len - ETH_HLEN + sizeof(headers) - sizeof(headers.ip));
	headers.vxlan.flags = bpf_htonl(1 << 27);
	headers.vxlan.network = bpf_htonl(7 << 8);
	found[3] = bpf_skb_adjust_room(skb, sizeof(headers), BPF_ADJ_ROOM_MAC,
				       BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
					       BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
					       BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH);
	if (found[3])
		return TC_ACT_SHOT;
	return bpf_skb_store_bytes(skb, ETH_HLEN, &headers, sizeof(headers), BPF_F_INVALIDATE_HASH);
}

PROGRAM(options)
{
	found[4] = bpf_skb_adjust_room(skb, 8, BPF_ADJ_ROOM_NET, 0);
	found[5] = bpf_skb_adjust_room(skb, -8, BPF_ADJ_ROOM_NET, 0);
	found[6] = bpf_skb_adjust_room(skb, 0x1000, BPF_ADJ_ROOM_NET, 0);
	found[7] = bpf_skb_adjust_room(skb, -1000, BPF_ADJ_ROOM_NET, 0);
	found[8] = bpf_skb_adjust_room(skb, 8, 2, 0);
	found[9] = bpf_skb_adjust_room(skb, 8, BPF_ADJ_ROOM_NET, 1 << 20);
	found[10] = skb->len;
	return 0;
}
