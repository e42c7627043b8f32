// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Maps of maps. */
#include "program.h"

__u64 found[16];

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} first SEC(".maps"), second SEC(".maps");

struct inner_hash {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps"), more_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} arrays SEC(".maps") = {
	.values = { [0] = &first, [2] = &second },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner_hash);
} hashes SEC(".maps");

PROGRAM(count)
{
	__u32 outer = skb->len & 3, key = skb->len & 1;
	__u64 *value, one = 1;
	void *map = bpf_map_lookup_elem(&arrays, &outer);

	found[0]++;
	if (map && (value = bpf_map_lookup_elem(map, &key)))
		*value += skb->len;
	else
		found[1]++;
	map = bpf_map_lookup_elem(&hashes, &outer);
	if (!map) {
		found[2]++;
		return 0;
	}
	value = bpf_map_lookup_elem(map, &key);
	if (value)
		__sync_fetch_and_add(value, 1);
	else
		found[3] += bpf_map_update_elem(map, &key, &one, BPF_NOEXIST) == 0;
	return 1;
}
