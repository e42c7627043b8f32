// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * A stateful firewall: the guest may talk to anybody, and only those may answer. Ports that are open let anybody begin.
 *
 * firewall_guest runs on what the guest sends and remembers its flows; firewall_host runs on what is sent to the guest.
 *
 *   flows    lru_hash  { both ends of the flow, seen from the guest }  ->  { time of the last packet, TCP state, packets }
 *   open     hash  { protocol, port of the guest }  ->  { packets that began a flow there }
 *   refused  percpu_array  { packets that nobody had asked for }
 *
 * A flow is forgotten after it was idle for the seconds in .rodata, or by TCP's own end. ARP, neighbour discovery and
 * ICMP errors pass, and an ICMP echo counts as a flow by its identifier. Later fragments pass: their first ones may not.
 */
#include "netkit.h"

#define NANOSECONDS 1000000000ULL
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO_REQUEST 8
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

const volatile __u32 tcp_idle_seconds = 7440;
const volatile __u32 closing_idle_seconds = 60;
const volatile __u32 other_idle_seconds = 120;

struct state {
	__u64 seen;
	__u64 packets;
	__u8 closed_by_guest;
	__u8 closed_by_host;
	__u8 pad[6];
};

struct service {
	__u16 port;
	__u8 protocol;
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, struct state);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct service);
	__type(value, __u64);
} open SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} refused SEC(".maps");

enum kind { KIND_FLOW, KIND_ALWAYS, KIND_NEVER };

/* An ICMP message: an echo is a flow by its identifier, everything else (errors, neighbour discovery) passes. */
static __always_inline enum kind icmp_kind(struct __sk_buff *skb, struct headers *headers)
{
	struct {
		__u8 type, code;
		__be16 checksum, identifier;
	} icmp;
	int echo;

	if (bpf_skb_load_bytes(skb, headers->transport, &icmp, sizeof(icmp)))
		return KIND_NEVER;
	if (headers->ipv6)
		echo = icmp.type == ICMPV6_ECHO_REQUEST || icmp.type == ICMPV6_ECHO_REPLY;
	else
		echo = icmp.type == ICMP_ECHO_REQUEST || icmp.type == ICMP_ECHO_REPLY;
	if (!echo)
		return KIND_ALWAYS;
	headers->flow.source_port = headers->flow.destination_port = icmp.identifier;
	return KIND_FLOW;
}

static __always_inline enum kind classify(struct __sk_buff *skb, struct headers *headers)
{
	pull_headers(skb);
	switch (parse_headers(skb, headers)) {
	case 0:
		break;
	case 1:
		return skb->protocol == bpf_htons(ETH_P_ARP) ? KIND_ALWAYS : KIND_NEVER;
	default:
		return KIND_NEVER;
	}
	if (headers->later_fragment)
		return KIND_ALWAYS;
	if (headers->flow.protocol == IPPROTO_ICMP || headers->flow.protocol == IPPROTO_ICMPV6)
		return icmp_kind(skb, headers);
	return KIND_FLOW;
}

static __always_inline __u64 idle_limit(const struct state *state, __u8 protocol)
{
	if (state->closed_by_guest || state->closed_by_host)
		return closing_idle_seconds * NANOSECONDS;
	if (protocol == IPPROTO_TCP)
		return tcp_idle_seconds * NANOSECONDS;
	return other_idle_seconds * NANOSECONDS;
}

static __always_inline void touch(struct state *state, const struct headers *headers, int from_guest)
{
	state->seen = bpf_ktime_get_ns();
	__sync_fetch_and_add(&state->packets, 1);
	if (headers->flow.protocol != IPPROTO_TCP)
		return;
	if (headers->tcp_flags & (TCP_FIN | TCP_RST)) {
		if (from_guest)
			state->closed_by_guest = 1;
		else
			state->closed_by_host = 1;
		if (headers->tcp_flags & TCP_RST)
			state->closed_by_guest = state->closed_by_host = 1;
	} else if ((headers->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		state->closed_by_guest = state->closed_by_host = 0;
	}
}

static __always_inline void remember(const struct flow *flow)
{
	struct state state = { .seen = bpf_ktime_get_ns(), .packets = 1 };

	bpf_map_update_elem(&flows, flow, &state, BPF_ANY);
}

static __always_inline int refuse(void)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&refused, &key);

	if (count)
		(*count)++;
	return NETKIT_DROP;
}

static __always_inline struct state *find(const struct flow *flow)
{
	struct state *state = bpf_map_lookup_elem(&flows, flow);
	__u64 now = bpf_ktime_get_ns();

	if (!state || (now > state->seen && now - state->seen > idle_limit(state, flow->protocol)))
		return NULL;
	return state;
}

SEC("netkit/peer")
int firewall_guest(struct __sk_buff *skb)
{
	struct headers headers;
	struct state *state;

	switch (classify(skb, &headers)) {
	case KIND_ALWAYS:
		return NETKIT_NEXT;
	case KIND_NEVER:
		return refuse();
	default:
		break;
	}
	state = find(&headers.flow);
	if (state)
		touch(state, &headers, 1);
	else
		remember(&headers.flow);
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int firewall_host(struct __sk_buff *skb)
{
	struct headers headers;
	struct service service = {};
	struct flow flow = {};
	struct state *state;
	__u64 *begun;

	switch (classify(skb, &headers)) {
	case KIND_ALWAYS:
		return NETKIT_NEXT;
	case KIND_NEVER:
		return refuse();
	default:
		break;
	}
	flow.source = headers.flow.destination;
	flow.destination = headers.flow.source;
	flow.source_port = headers.flow.destination_port;
	flow.destination_port = headers.flow.source_port;
	flow.protocol = headers.flow.protocol;
	state = find(&flow);
	if (state) {
		touch(state, &headers, 0);
		return NETKIT_NEXT;
	}
	service.protocol = flow.protocol;
	service.port = bpf_ntohs(flow.source_port);
	begun = bpf_map_lookup_elem(&open, &service);
	if (!begun)
		return refuse();
	__sync_fetch_and_add(begun, 1);
	remember(&flow);
	return NETKIT_NEXT;
}
