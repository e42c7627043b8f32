// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Thousands of instructions in one function. */
#include "program.h"

__u64 found[4];

PROGRAM(large)
{
	volatile __u8 *octets = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	__u64 a = 1, b = 2;
	__u32 c = 3;

	if ((void *)octets + 128 > end)
		return 1;
#pragma unroll
	for (int round = 0; round < 6; round++) {
#pragma unroll
		for (int i = 0; i < 128; i++) {
			a = a * 31 + octets[i];
			b ^= a >> (i & 31);
			c = c * 0x01000193 + (octets[(i * 7 + round) & 127] ^ (__u32)b);
			b += c & 0xf;
			/* Keeps the compiler from computing everything before anything. */
			asm volatile("" : "+r"(a), "+r"(b), "+r"(c));
		}
	}
	if (a & 1)
		found[3]++;
	found[0] = a;
	found[1] = b;
	found[2] = c;
	return c;
}
