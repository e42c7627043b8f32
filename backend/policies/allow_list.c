// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Lets through what a list of networks and ports allows, and counts it; drops the rest, and counts that.
 *
 * allow_guest runs on what the guest sends and looks at destinations, allow_host on what is sent to the guest and
 * looks at sources. The most specific network decides. ARP and IPv6 neighbour discovery always pass, else nothing would.
 *
 *   allowed   lpm_trie  { prefix length + 96 for IPv4, address }  ->  { first and last port, protocol or 0, counters }
 *   rejected  percpu_array  { frames and octets that were dropped }
 */
#include "netkit.h"

#define ICMPV6_NEIGHBOUR_FIRST 133
#define ICMPV6_NEIGHBOUR_LAST 137

struct network {
	__u32 prefix_length;
	struct address address;
};

struct rule {
	__u16 first_port;
	__u16 last_port;
	__u8 protocol;
	__u8 pad[3];
	__u64 packets;
	__u64 bytes;
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct network);
	__type(value, struct rule);
} allowed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counter);
} rejected SEC(".maps");

static __always_inline int reject(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct counter *counter = bpf_map_lookup_elem(&rejected, &key);

	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	}
	return NETKIT_DROP;
}

static __always_inline int is_neighbour_discovery(struct __sk_buff *skb, const struct headers *headers)
{
	__u8 type;

	return headers->ipv6 && headers->flow.protocol == IPPROTO_ICMPV6 &&
	       bpf_skb_load_bytes(skb, headers->transport, &type, sizeof(type)) == 0 &&
	       type >= ICMPV6_NEIGHBOUR_FIRST && type <= ICMPV6_NEIGHBOUR_LAST;
}

static __always_inline int allow(struct __sk_buff *skb, int to_guest)
{
	struct network network = { .prefix_length = 128 };
	struct headers headers;
	struct rule *rule;
	__u16 port;

	pull_headers(skb);
	switch (parse_headers(skb, &headers)) {
	case 0:
		break;
	case 1:
		return skb->protocol == bpf_htons(ETH_P_ARP) ? NETKIT_NEXT : reject(skb);
	default:
		return reject(skb);
	}
	if (is_neighbour_discovery(skb, &headers))
		return NETKIT_NEXT;
	network.address = to_guest ? headers.flow.source : headers.flow.destination;
	rule = bpf_map_lookup_elem(&allowed, &network);
	if (!rule || (rule->protocol && rule->protocol != headers.flow.protocol))
		return reject(skb);
	port = bpf_ntohs(to_guest ? headers.flow.source_port : headers.flow.destination_port);
	if (port < rule->first_port || port > rule->last_port)
		return reject(skb);
	__sync_fetch_and_add(&rule->packets, 1);
	__sync_fetch_and_add(&rule->bytes, skb->len);
	return NETKIT_NEXT;
}

SEC("netkit/peer")
int allow_guest(struct __sk_buff *skb)
{
	return allow(skb, 0);
}

SEC("netkit/primary")
int allow_host(struct __sk_buff *skb)
{
	return allow(skb, 1);
}
