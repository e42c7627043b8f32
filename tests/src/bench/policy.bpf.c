/* SPDX-License-Identifier: Apache-2.0 */
/* The policy of the benchmark: parses Ethernet, IPv4 and UDP or TCP, looks the flow up in a hash table and counts it. A new
 * flow is entered, so that every frame but a flow's first finds one. */
#include "netkit.h"

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, struct counter);
} flows SEC(".maps");

SEC("netkit/primary")
int count_flow(struct __sk_buff *skb)
{
	struct counter first = { .packets = 1, .bytes = skb->len };
	struct headers headers;
	struct counter *counter;

	pull_headers(skb);
	if (parse_headers(skb, &headers))
		return NETKIT_NEXT;
	counter = bpf_map_lookup_elem(&flows, &headers.flow);
	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	} else {
		bpf_map_update_elem(&flows, &headers.flow, &first, BPF_ANY);
	}
	return NETKIT_NEXT;
}
