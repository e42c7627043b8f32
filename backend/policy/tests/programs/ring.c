// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Ring buffers. */
#include "program.h"

__s64 found[16];

struct event {
	__u32 len;
	__u8 octets[12];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

PROGRAM(tell)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
	struct event on_stack = { .len = 7 };

	if (!event)
		return 1;
	event->len = skb->len;
	if (bpf_skb_load_bytes(skb, 0, event->octets, sizeof(event->octets))) {
		bpf_ringbuf_discard(event, 0);
		return 2;
	}
	bpf_ringbuf_submit(event, 0);
	event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
	if (!event)
		return 3;
	bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
	found[0] = bpf_ringbuf_output(&ring, &on_stack, sizeof(on_stack), 0);
	found[1] = bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE);
	found[2] = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
	found[3] = bpf_ringbuf_query(&ring, BPF_RB_PROD_POS);
	found[4] = bpf_ringbuf_query(&ring, BPF_RB_CONS_POS);
	found[5] = bpf_ringbuf_query(&ring, 99);
	found[6] = bpf_ringbuf_output(&ring, &on_stack, sizeof(on_stack), 8);
	event = bpf_ringbuf_reserve(&ring, 8192, 0);
	if (!event)
		return 0;
	bpf_ringbuf_submit(event, 0);
	return 4;
}

/* How many records fit in. */
PROGRAM(fill)
{
	__u64 record[8] = {};

	for (int i = 0; i < 100; i++) {
		if (bpf_ringbuf_output(&ring, record, sizeof(record), BPF_RB_NO_WAKEUP))
			break;
		found[8]++;
	}
	return 0;
}
