// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs that no verifier lets through, with the lines where they go wrong. */
#include "program.h"

const volatile __u32 constant = 5;

PROGRAM(null)
{
	__u64 *nowhere = (void *)(long)skb->mark;

	return *nowhere; /* here */
}

static __noinline int deep(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data;

	return data[0x30000]; /* deep */
}

PROGRAM(in_function)
{
	return deep(skb) + 1;
}

PROGRAM(endless)
{
	volatile __u32 count = 0;

	for (;;)
		count++; /* round */
}

PROGRAM(write_constant)
{
	*(volatile __u32 *)(skb->mark + (long)&constant) = 1; /* constant */
	return 0;
}
