/* SPDX-License-Identifier: Apache-2.0 */
/* The policy of the benchmark: parses Ethernet, IPv4 and UDP or TCP, looks the flow up in a hash table and counts it. A new
 * flow is entered, so that every frame but a flow's first finds one. */
#include "netkit.h"

struct five_tuple {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct five_tuple);
	__type(value, struct counter);
} flows SEC(".maps");

SEC("netkit/primary")
int count_flow(struct __sk_buff *skb)
{
	struct counter first = { .packets = 1, .bytes = skb->len };
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct five_tuple flow = {};
	struct counter *counter;
	__be16 *ports;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return NETKIT_NEXT;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return NETKIT_NEXT;
	if (ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET))
		return NETKIT_NEXT;
	ports = (void *)ip + ip->ihl * 4;
	if ((void *)(ports + 2) > end)
		return NETKIT_NEXT;
	flow.source = ip->saddr;
	flow.destination = ip->daddr;
	flow.source_port = ports[0];
	flow.destination_port = ports[1];
	flow.protocol = ip->protocol;
	counter = bpf_map_lookup_elem(&flows, &flow);
	if (counter) {
		counter->packets++;
		counter->bytes += skb->len;
	} else {
		bpf_map_update_elem(&flows, &flow, &first, BPF_ANY);
	}
	return NETKIT_NEXT;
}
