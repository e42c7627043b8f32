// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs that no kernel would load. */
#include "netkit.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} place SEC(".maps");

SEC("netkit/primary")
int fault(struct __sk_buff *skb)
{
	*(volatile __u64 *)(long)(skb->mark + 8) = 1;
	return NETKIT_PASS;
}

/* Reads whatever there is behind its map, until there is nothing. */
SEC("netkit/primary")
int stray(struct __sk_buff *skb)
{
	__u32 key = 0;
	volatile __u64 *value = bpf_map_lookup_elem(&place, &key);

	if (!value)
		return NETKIT_DROP;
	for (__u64 at = 0; at < 1ULL << 30; at += 512)
		value[at] = at;
	return NETKIT_PASS;
}

SEC("netkit/primary")
int endless(struct __sk_buff *skb)
{
	volatile __u32 turns = 0;

	while (turns + 1)
		turns = turns & 7;
	return NETKIT_PASS;
}

/* Writes beyond the packet. */
SEC("netkit/primary")
int beyond(struct __sk_buff *skb)
{
	volatile __u8 *end = (void *)(long)skb->data_end;

	for (__u32 at = 0; at < 1 << 20; at++)
		end[at] = 0xff;
	return NETKIT_PASS;
}

/* Copies the frame wherever it can. */
SEC("netkit/primary")
int copies(struct __sk_buff *skb)
{
	for (int round = 0; round < 1000; round++)
		bpf_clone_redirect(skb, round & 15, round & 16 ? BPF_F_INGRESS : 0);
	return NETKIT_PASS;
}
