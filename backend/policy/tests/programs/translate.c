// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* From IPv4 to IPv6 and back, as NAT64 does it. */
#include "program.h"

__s64 found[8];

PROGRAM(to_ipv6)
{
	struct ipv6hdr new = { .version = 6, .hop_limit = 63 };
	struct iphdr old;
	__be16 type = bpf_htons(ETH_P_IPV6);

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &old, sizeof(old)))
		return TC_ACT_SHOT;
	new.payload_len = bpf_htons(bpf_ntohs(old.tot_len) - sizeof(old));
	new.nexthdr = old.protocol;
	new.saddr.in6_u.u6_addr32[0] = bpf_htonl(0x0064ff9b);
	new.saddr.in6_u.u6_addr32[3] = old.saddr;
	new.daddr.in6_u.u6_addr32[0] = bpf_htonl(0x0064ff9b);
	new.daddr.in6_u.u6_addr32[3] = old.daddr;
	found[0] = bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0);
	if (found[0])
		return TC_ACT_SHOT;
	found[1] = skb->protocol;
	found[2] = skb->len;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &new, sizeof(new), 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &type, 2, 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

PROGRAM(to_ipv4)
{
	struct ipv6hdr old;
	struct iphdr new = { .version = 4, .ihl = 5, .ttl = 63 };
	__be16 type = bpf_htons(ETH_P_IP);
	__u32 sum;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &old, sizeof(old)))
		return TC_ACT_SHOT;
	new.tot_len = bpf_htons(bpf_ntohs(old.payload_len) + sizeof(new));
	new.protocol = old.nexthdr;
	new.saddr = old.saddr.in6_u.u6_addr32[3];
	new.daddr = old.daddr.in6_u.u6_addr32[3];
	sum = bpf_csum_diff(0, 0, (__be32 *)&new, sizeof(new), 0);
	sum = (sum & 0xffff) + (sum >> 16);
	new.check = ~((sum & 0xffff) + (sum >> 16));
	found[3] = bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0);
	if (found[3])
		return TC_ACT_SHOT;
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &new, sizeof(new), 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &type, 2, 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

PROGRAM(refused)
{
	found[4] = bpf_skb_change_proto(skb, bpf_htons(ETH_P_ARP), 0);
	found[5] = bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 1);
	found[6] = bpf_skb_change_type(skb, 3);
	found[7] = bpf_skb_change_type(skb, 99);
	return skb->pkt_type;
}
