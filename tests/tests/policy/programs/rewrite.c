// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs that change packets. */
#include "netkit.h"

#define TRANSPORT (ETH_HLEN + sizeof(struct iphdr))
#define TCP_SEQUENCE (TRANSPORT + offsetof(struct tcphdr, seq))
#define TCP_CHECKSUM (TRANSPORT + offsetof(struct tcphdr, check))
#define UDP_CHECKSUM (TRANSPORT + offsetof(struct udphdr, check))
#define PORT (TRANSPORT + offsetof(struct udphdr, dest))
#define ADDRESS (ETH_HLEN + offsetof(struct iphdr, daddr))
#define IPV4_CHECKSUM (ETH_HLEN + offsetof(struct iphdr, check))

#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif

/* Sends IPv4 packets without options to 10.9.8.7, port 4660. */
SEC("netkit/primary")
int nat(struct __sk_buff *skb)
{
	__be32 new_address = bpf_htonl(0x0a090807), address;
	__be16 new_port = bpf_htons(4660), port;
	__u32 checksum = UDP_CHECKSUM, mangled = BPF_F_MARK_MANGLED_0;
	__u8 protocol;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return NETKIT_NEXT;
	bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, protocol), &protocol, sizeof(protocol));
	bpf_skb_load_bytes(skb, ADDRESS, &address, sizeof(address));
	bpf_skb_load_bytes(skb, PORT, &port, sizeof(port));
	if (protocol == IPPROTO_TCP) {
		checksum = TCP_CHECKSUM;
		mangled = 0;
	}
	bpf_l4_csum_replace(skb, checksum, address, new_address, BPF_F_PSEUDO_HDR | mangled | sizeof(address));
	bpf_l4_csum_replace(skb, checksum, port, new_port, mangled | sizeof(port));
	bpf_l3_csum_replace(skb, IPV4_CHECKSUM, address, new_address, sizeof(address));
	bpf_skb_store_bytes(skb, ADDRESS, &new_address, sizeof(new_address), 0);
	bpf_skb_store_bytes(skb, PORT, &new_port, sizeof(new_port), 0);
	return NETKIT_NEXT;
}

/* Shifts the sequence numbers of a TCP stream. */
SEC("netkit/primary")
int shift(struct __sk_buff *skb)
{
	__be32 old, new;

	bpf_skb_load_bytes(skb, TCP_SEQUENCE, &old, sizeof(old));
	new = bpf_htonl(bpf_ntohl(old) + 1000);
	bpf_l4_csum_replace(skb, TCP_CHECKSUM, old, new, sizeof(new));
	bpf_skb_store_bytes(skb, TCP_SEQUENCE, &new, sizeof(new), 0);
	return NETKIT_NEXT;
}

/* Claims that the TCP header is shorter than one can be. */
SEC("netkit/primary")
int break_header(struct __sk_buff *skb)
{
	__u8 offset = 2 << 4;

	bpf_skb_store_bytes(skb, TRANSPORT + 12, &offset, sizeof(offset), 0);
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int tag(struct __sk_buff *skb)
{
	bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 42);
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int untag(struct __sk_buff *skb)
{
	bpf_skb_vlan_pop(skb);
	return NETKIT_NEXT;
}

/* Puts an IPv4 packet into another one. */
SEC("netkit/primary")
int encapsulate(struct __sk_buff *skb)
{
	struct iphdr outer = {
		.version = 4,
		.ihl = 5,
		.ttl = 64,
		.protocol = IPPROTO_IPIP,
		.tot_len = bpf_htons(skb->len - ETH_HLEN + sizeof(outer)),
		.saddr = bpf_htonl(0xc0000201),
		.daddr = bpf_htonl(0xc0000202),
	};
	__s64 sum;

	if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4))
		return NETKIT_DROP;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&outer, sizeof(outer), 0);
	sum = (sum & 0xffff) + (sum >> 16);
	outer.check = ~((sum & 0xffff) + (sum >> 16));
	bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
	return NETKIT_NEXT;
}
