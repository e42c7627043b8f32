// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Global data: what is set from the start, what is zero, what is constant. */
#include "program.h"

__u64 counter = 41;
static volatile __u32 hidden = 0x1234;
__u8 octets[13] = "hello, world";
__u64 zero[9];
const volatile __u32 limit = 100;
static const __u16 table[] = { 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233 };
const char text[] = "some text that is longer than eight octets";
__s32 own SEC(".data.own") = -5;
const volatile __u64 fixed SEC(".rodata.fixed") = 0xfedcba9876543210;

PROGRAM(data)
{
	__u32 index = skb->len & 7;

	counter++;
	hidden += skb->len;
	zero[0] += counter;
	zero[1] = table[index];
	zero[2] += limit > skb->len;
	octets[index] ^= 0x20;
	zero[3] = text[index];
	own *= 3;
	zero[4] = fixed;
	zero[5] = bpf_strncmp(text, 5, "some.");
	zero[6] = __sync_fetch_and_add(&zero[7], 3);
	return hidden + own;
}
