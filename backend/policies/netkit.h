/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What all policies share: netkit's verdicts, and a parser of the headers that they look at. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* enum netkit_action of linux/if_link.h, which older headers lack */
#define NETKIT_NEXT -1
#define NETKIT_PASS 0
#define NETKIT_DROP 2
#define NETKIT_REDIRECT 7

#define IP_MORE_FRAGMENTS 0x2000
#define IP_FRAGMENT_OFFSET 0x1fff

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d */
struct address {
	__u32 word[4];
};

/* The two ends of a flow. Ports are in network order; ICMP and later fragments have none. */
struct flow {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};

/* Where a packet's headers are, as offsets into the frame. */
struct headers {
	struct flow flow;
	__u32 network;
	__u32 transport;
	__u8 ipv6;
	__u8 later_fragment;
	__u8 tcp_flags;
};

static __always_inline struct address ipv4_address(__be32 address)
{
	return (struct address){ { 0, 0, bpf_htonl(0xffff), address } };
}

static __always_inline struct address ipv6_address(const struct in6_addr *address)
{
	return (struct address){ { address->in6_u.u6_addr32[0], address->in6_u.u6_addr32[1],
				   address->in6_u.u6_addr32[2], address->in6_u.u6_addr32[3] } };
}

/* TCP and UDP both begin with the ports; a verifier follows one pointer more easily than two. */
struct transport {
	__be16 source;
	__be16 destination;
	__u8 rest[10];
};

static __always_inline int parse_ports(struct __sk_buff *skb, struct headers *headers)
{
	struct transport *transport = (void *)(long)skb->data + headers->transport;
	void *end = (void *)(long)skb->data_end;
	int is_tcp = headers->flow.protocol == IPPROTO_TCP;

	if (headers->later_fragment || (!is_tcp && headers->flow.protocol != IPPROTO_UDP))
		return 0;
	if ((void *)&transport->rest > end)
		return -1;
	headers->flow.source_port = transport->source;
	headers->flow.destination_port = transport->destination;
	if (!is_tcp)
		return 0;
	if ((void *)(transport + 1) > end)
		return -1;
	headers->tcp_flags = transport->rest[9];
	return 0;
}

/* Reads the headers of an IP packet. 0: done; 1: not IP; -1: cut short. IPv6 extension headers are not followed: their
 * number is the protocol then, which no rule for TCP or UDP fits. */
static __always_inline int parse_headers(struct __sk_buff *skb, struct headers *headers)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	__builtin_memset(headers, 0, sizeof(*headers));
	headers->network = ETH_HLEN;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + ETH_HLEN;
		__u32 len;

		if ((void *)(ip + 1) > end)
			return -1;
		len = ip->ihl * 4;
		if (len < sizeof(*ip))
			return -1;
		headers->flow.source = ipv4_address(ip->saddr);
		headers->flow.destination = ipv4_address(ip->daddr);
		headers->flow.protocol = ip->protocol;
		headers->later_fragment = !!(ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET));
		headers->transport = ETH_HLEN + len;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + ETH_HLEN;

		if ((void *)(ip + 1) > end)
			return -1;
		headers->flow.source = ipv6_address(&ip->saddr);
		headers->flow.destination = ipv6_address(&ip->daddr);
		headers->flow.protocol = ip->nexthdr;
		headers->ipv6 = 1;
		headers->transport = ETH_HLEN + sizeof(*ip);
	} else {
		return 1;
	}
	return parse_ports(skb, headers);
}

/* Has the first octets of a frame linear, as far as there are any: what parse_headers looks at. */
static __always_inline void pull_headers(struct __sk_buff *skb)
{
	__u32 wanted = ETH_HLEN + 60 + sizeof(struct tcphdr);

	if ((__u64)skb->data + wanted > skb->data_end)
		bpf_skb_pull_data(skb, skb->len < wanted ? skb->len : wanted);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
