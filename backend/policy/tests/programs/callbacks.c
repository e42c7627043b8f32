// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Helpers that call functions of the program. */
#include "program.h"

__s64 found[32];

ARRAY(array, BPF_MAP_TYPE_ARRAY, 5, __u64);
ARRAY(percpu, BPF_MAP_TYPE_PERCPU_ARRAY, 3, __u64);
ARRAY(hash, BPF_MAP_TYPE_HASH, 8, __u64);

struct state {
	__u64 sum, times, stop_at;
	struct __sk_buff *skb;
};

static int add(__u32 index, struct state *state)
{
	state->sum += index;
	state->times++;
	return state->times >= state->stop_at;
}

static int inner(__u32 index, struct state *state)
{
	state->sum += index * 100;
	return 0;
}

static int nest(__u32 index, struct state *state)
{
	bpf_loop(index, inner, state, 0);
	return 0;
}

PROGRAM(loops)
{
	/* Numbers that a verifier does not know, so that it soon has seen all there is. */
	struct state state = { .stop_at = ~0ULL, .times = skb->len };

	found[0] = bpf_loop(10, add, &state, 0);
	found[1] = state.sum;
	found[2] = bpf_loop(0, add, &state, 0);
	return state.times;
}

PROGRAM(broken_loops)
{
	struct state state = { .stop_at = skb->len + 3, .times = skb->len };

	found[3] = bpf_loop(100, add, &state, 0);
	found[4] = state.sum;
	/* Where Linux has the loop inline, it answers with 32 bits of the errno. */
	found[5] = (int)bpf_loop((1 << 23) + 1, add, &state, 0);
	found[6] = bpf_loop(5, add, &state, 1);
	found[7] = bpf_loop(6, nest, &state, 0);
	found[8] = state.sum;
	return state.sum;
}

static long each(void *map, __u32 *key, __u64 *value, struct state *state)
{
	state->sum += *key * 1000 + *value;
	(*value)++;
	state->times++;
	return state->times >= state->stop_at;
}

static long all(void *map, __u32 *key, __u64 *value, struct state *state)
{
	state->sum += *key * 1000 + *value;
	(*value)++;
	return 0;
}

static long forget(void *map, __u32 *key, __u64 *value, struct state *state)
{
	if (*key & 1)
		state->sum += bpf_map_delete_elem(&hash, key) == 0;
	return 0;
}

PROGRAM(elements)
{
	struct state state = { .stop_at = ~0ULL, .times = skb->len };
	__u64 value = 7;

#pragma unroll
	for (int i = 1; i < 6; i++) {
		__u32 key = i;

		bpf_map_update_elem(&hash, &key, &value, BPF_ANY);
	}
	found[10] = bpf_for_each_map_elem(&array, all, &state, 0);
	found[11] = bpf_for_each_map_elem(&percpu, all, &state, 0);
	found[12] = bpf_for_each_map_elem(&hash, all, &state, 0);
	found[13] = state.sum;
	return state.sum;
}

/* Some of them. */
PROGRAM(some_elements)
{
	struct state state = { .stop_at = skb->len + 2, .times = skb->len };

	found[14] = bpf_for_each_map_elem(&array, each, &state, 1);
	found[15] = bpf_for_each_map_elem(&array, each, &state, 0);
	found[16] = state.sum;
	found[17] = bpf_for_each_map_elem(&hash, forget, &state, 0);
	found[18] = state.sum;
	return state.times;
}
