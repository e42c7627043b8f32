// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Functions of a program: static ones, global ones, deep ones, with five arguments, on each other's stacks. */
#include "program.h"

__u64 found[16];

static __noinline __u64 five(__u64 a, __u64 b, __u64 c, __u64 d, __u64 e)
{
	return a + 2 * b + 3 * c + 5 * d + 7 * e;
}

__noinline int global(struct __sk_buff *skb, int add)
{
	return skb->len + add;
}

static __noinline int fill(__u32 *words, int count)
{
	for (int i = 0; i < 8; i++)
		words[i] = count + i;
	return words[3];
}

#define LEVEL(N, NEXT)                                                                                                 \
	static __noinline __u64 level##N(__u64 value)                                                                  \
	{                                                                                                              \
		volatile __u64 mine = value * N + 1;                                                                   \
		__u64 deeper = NEXT(value + N);                                                                        \
                                                                                                                       \
		return deeper + mine;                                                                                  \
	}

static __noinline __u64 last(__u64 value)
{
	volatile __u64 mine[2] = { value, value ^ 0xff };

	return mine[0] * 3 + mine[1];
}

LEVEL(6, last)
LEVEL(5, level6)
LEVEL(4, level5)
LEVEL(3, level4)
LEVEL(2, level3)
LEVEL(1, level2)

PROGRAM(calls)
{
	__u32 words[8] = {};

	found[0] = five(skb->len, 2, 3, 4, -1);
	found[1] = global(skb, 5);
	found[2] = fill(words, skb->len);
	found[3] = words[7];
	found[4] = level1(skb->len);
	found[5] = five(found[0], found[1], found[2], found[3], found[4]);
	return found[5];
}

static __noinline int read_first(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + 20 > end)
		return -1;
	return *(__u8 *)(data + 14) + *(__u16 *)(data + 12);
}

static __noinline int write_back(struct __sk_buff *skb, __u8 octet)
{
	return bpf_skb_store_bytes(skb, 14, &octet, 1, 0);
}

PROGRAM(in_the_frame)
{
	int first = read_first(skb);

	if (first < 0)
		return first;
	write_back(skb, first + 1);
	return read_first(skb) - first;
}
