// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Maps of every kind that has entries, changed by programs. */
#include "program.h"

__s64 found[64];

struct pair {
	__u64 count, sum;
};

struct network {
	__u32 len;
	__u8 octets[4];
};

ARRAY(array, BPF_MAP_TYPE_ARRAY, 4, struct pair);
ARRAY(percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, 4, struct pair);
ARRAY(hash, BPF_MAP_TYPE_HASH, 8, struct pair);
ARRAY(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, 8, struct pair);
ARRAY(lru, BPF_MAP_TYPE_LRU_HASH, 64, struct pair);
ARRAY(percpu_lru, BPF_MAP_TYPE_LRU_PERCPU_HASH, 64, struct pair);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct network);
	__type(value, __u64);
} networks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 3);
	__type(value, __u32);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 3);
	__type(value, __u32);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__type(value, __u32);
} bloom SEC(".maps");

static __always_inline void count(void *map, __u32 key, __u32 len)
{
	struct pair *pair = bpf_map_lookup_elem(map, &key);
	struct pair first = { 1, len };

	if (pair) {
		pair->count++;
		pair->sum += len;
	} else {
		bpf_map_update_elem(map, &key, &first, BPF_ANY);
	}
}

PROGRAM(count_frames)
{
	__u32 key = skb->len & 7;

	count(&array, key, skb->len);
	count(&percpu_array, key, skb->len);
	count(&hash, key, skb->len);
	count(&percpu_hash, key, skb->len);
	count(&lru, key, skb->len);
	count(&percpu_lru, key, skb->len);
	return key;
}

static __always_inline int results_of(void *map, int at)
{
	struct pair pair = { 7, 8 };
	__u32 key = 1, absent = 1000;

	found[at++] = bpf_map_update_elem(map, &key, &pair, BPF_NOEXIST);
	found[at++] = bpf_map_update_elem(map, &key, &pair, BPF_NOEXIST);
	found[at++] = bpf_map_update_elem(map, &key, &pair, BPF_EXIST);
	found[at++] = bpf_map_update_elem(map, &absent, &pair, BPF_EXIST);
	found[at++] = bpf_map_delete_elem(map, &absent);
	found[at++] = bpf_map_delete_elem(map, &key);
	found[at++] = bpf_map_delete_elem(map, &key);
	found[at++] = bpf_map_lookup_elem(map, &key) != 0;
	return at;
}

PROGRAM(results)
{
	results_of(&array, 0);
	results_of(&percpu_array, 8);
	results_of(&hash, 16);
	results_of(&percpu_hash, 24);
	results_of(&lru, 32);
	results_of(&percpu_lru, 40);
	return 0;
}

/* More entries than there may be. */
PROGRAM(overfill)
{
	struct pair pair = {};

#pragma unroll
	for (int i = 0; i < 10; i++) {
		__u32 key = 100 + i;

		pair.count = key;
		found[i] = bpf_map_update_elem(&hash, &key, &pair, BPF_ANY);
	}
	return 0;
}

static __always_inline __s64 insert(__u8 a, __u8 b, __u8 c, __u8 d, __u32 len, __u64 value)
{
	struct network network = { len, { a, b, c, d } };

	return bpf_map_update_elem(&networks, &network, &value, BPF_ANY);
}

static __always_inline __s64 route(__u8 a, __u8 b, __u8 c, __u8 d, __u32 len)
{
	struct network network = { len, { a, b, c, d } };
	__u64 *value = bpf_map_lookup_elem(&networks, &network);

	return value ? (__s64)*value : -1;
}

PROGRAM(longest_prefixes)
{
	struct network gone = { 24, { 10, 1, 2, 0 } };

	found[0] = insert(10, 0, 0, 0, 8, 8);
	found[1] = insert(10, 1, 0, 0, 16, 16);
	found[2] = insert(10, 1, 2, 0, 24, 24);
	found[3] = insert(10, 1, 2, 3, 32, 32);
	found[4] = insert(10, 1, 2, 3, 33, 33);
	found[5] = route(10, 1, 2, 3, 32);
	found[6] = route(10, 1, 2, 4, 32);
	found[7] = route(10, 1, 9, 4, 32);
	found[8] = route(10, 9, 9, 4, 32);
	found[9] = route(11, 9, 9, 4, 32);
	found[10] = route(10, 1, 2, 3, 24);
	found[11] = bpf_map_delete_elem(&networks, &gone);
	found[12] = bpf_map_delete_elem(&networks, &gone);
	found[13] = route(10, 1, 2, 4, 32);
	found[14] = insert(0, 0, 0, 0, 0, 100);
	found[15] = route(11, 9, 9, 4, 32);
	found[16] = insert(10, 200, 0, 0, 8, 108);
	found[17] = route(10, 9, 9, 9, 32);
	return 0;
}

PROGRAM(queues)
{
	__u32 value, at = 0;

#pragma unroll
	for (int i = 1; i <= 4; i++) {
		value = i;
		found[at++] = bpf_map_push_elem(&queue, &value, BPF_ANY);
		found[at++] = bpf_map_push_elem(&stack, &value, BPF_ANY);
	}
	value = 5;
	found[at++] = bpf_map_push_elem(&queue, &value, BPF_EXIST);
	found[at++] = bpf_map_peek_elem(&queue, &value);
	found[at++] = value;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		value = 99;
		found[at++] = bpf_map_pop_elem(&queue, &value);
		found[at++] = value;
		value = 99;
		found[at++] = bpf_map_pop_elem(&stack, &value);
		found[at++] = value;
	}
	value = 42;
	found[at++] = bpf_map_push_elem(&bloom, &value, BPF_ANY);
	found[at++] = bpf_map_peek_elem(&bloom, &value);
	value = 43;
	found[at++] = bpf_map_peek_elem(&bloom, &value);
	return 0;
}
