/* SPDX-License-Identifier: Apache-2.0 */
/* What benches/map.rs measures, done to a map of the kernel. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ENTRIES (1 << 20)
#define ROUNDS 1024

struct key {
	__u64 words[2];
};

struct value {
	__u64 words[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct key);
	__type(value, struct value);
	__uint(max_entries, ENTRIES);
} entries SEC(".maps");

SEC("tc")
int mix(struct __sk_buff *skb)
{
	__u64 x = bpf_ktime_get_ns() | 1, sum = 0;

	for (int round = 0; round < ROUNDS; round++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		__u64 number = x >> 44;
		struct key key = { { number, number * 0x9e3779b97f4a7c15ULL } };

		if ((x & 0xffff) < 6554) {
			struct value value = { { x, x, x, x } };

			bpf_map_update_elem(&entries, &key, &value, 0);
		} else {
			struct value *value = bpf_map_lookup_elem(&entries, &key);

			if (value)
				sum += value->words[0];
		}
	}
	return (int)(sum | 1);
}
