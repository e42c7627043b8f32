// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Tail calls: into a table that is full from the start, and into one that is filled from outside. */
#include "program.h"

__u64 found[16];

int chain(struct __sk_buff *skb);
int mark(struct __sk_buff *skb);
int write(struct __sk_buff *skb);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void));
} fixed SEC(".maps") = {
	.values = {
		[0] = (void *)&chain,
		[1] = (void *)&mark,
		[3] = (void *)&write,
	},
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} changing SEC(".maps");

PROGRAM(chain)
{
	found[0]++;
	bpf_tail_call(skb, &fixed, 0);
	return 100 + found[0];
}

PROGRAM(mark)
{
	skb->mark = skb->cb[0] + 1;
	found[1]++;
	return 11;
}

PROGRAM(write)
{
	__u8 octet = skb->cb[1];

	bpf_skb_store_bytes(skb, 20, &octet, 1, 0);
	bpf_tail_call(skb, &fixed, 1);
	return 12;
}

PROGRAM(start)
{
	skb->cb[0] = 41;
	skb->cb[1] = 0xaa;
	bpf_tail_call(skb, &fixed, 3);
	return 1;
}

PROGRAM(to_none)
{
	bpf_tail_call(skb, &fixed, 2);
	found[2]++;
	bpf_tail_call(skb, &fixed, 4);
	found[2]++;
	bpf_tail_call(skb, &fixed, 0xffffffff);
	found[2]++;
	return 13;
}

/* The index is not a constant, nor is what lies there. */
PROGRAM(to_any)
{
	bpf_tail_call(skb, &changing, skb->len & 3);
	return 14;
}

PROGRAM(again)
{
	found[3]++;
	bpf_tail_call(skb, &changing, skb->mark);
	return 15;
}

static __noinline int into(struct __sk_buff *skb)
{
	volatile int on_stack = 5;

	found[4]++;
	bpf_tail_call(skb, &changing, 2);
	return on_stack;
}

/* A tail call from a function ends the function. */
PROGRAM(from_function)
{
	int first = into(skb);

	found[5] += first;
	return into(skb) + 1000;
}

PROGRAM(end)
{
	found[6]++;
	return 20;
}

PROGRAM(end_via_function)
{
	found[7]++;
	return into(skb) + 2000;
}
