// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Loads and stores through helpers, and frames that change their length. */
#include "program.h"

__s64 found[40];

PROGRAM(copies)
{
	__u8 octets[32] = {};
	int at = 0;

	found[at++] = bpf_skb_load_bytes(skb, 14, octets, 32);
	found[at++] = bpf_skb_store_bytes(skb, 40, octets, 16, 0);
	found[at++] = bpf_skb_store_bytes(skb, 0, octets + 3, 12, BPF_F_INVALIDATE_HASH);
	found[at++] = bpf_skb_load_bytes(skb, skb->len - 1, octets, 1);
	found[at++] = bpf_skb_load_bytes(skb, skb->len - 1, octets, 2);
	found[at++] = octets[0];
	found[at++] = bpf_skb_load_bytes(skb, skb->len, octets, 1);
	found[at++] = bpf_skb_load_bytes(skb, -1, octets, 1);
	found[at++] = bpf_skb_load_bytes(skb, 0x7fffffff, octets, 8);
	found[at++] = bpf_skb_store_bytes(skb, skb->len - 1, octets, 2, 0);
	found[at++] = bpf_skb_store_bytes(skb, 0, octets, 2, 4);
	found[at++] = bpf_skb_store_bytes(skb, 20, octets, 8, BPF_F_RECOMPUTE_CSUM);
	found[at++] = bpf_skb_load_bytes_relative(skb, 0, octets, 8, BPF_HDR_START_MAC);
	found[at++] = octets[7];
	found[at++] = bpf_skb_load_bytes_relative(skb, 0, octets, 8, BPF_HDR_START_NET);
	found[at++] = octets[7];
	found[at++] = bpf_skb_load_bytes_relative(skb, 0, octets, 8, 2);
	found[at++] = bpf_skb_load_bytes_relative(skb, skb->len - 13, octets, 8, BPF_HDR_START_NET);
	return at;
}

PROGRAM(lengths)
{
	int at = 20;

	found[at++] = bpf_skb_change_tail(skb, skb->len + 50, 0);
	found[at++] = skb->len;
	found[at++] = bpf_skb_change_tail(skb, 60, 0);
	found[at++] = skb->len;
	found[at++] = bpf_skb_change_tail(skb, 10, 0);
	found[at++] = bpf_skb_change_tail(skb, 1 << 20, 0);
	found[at++] = bpf_skb_change_tail(skb, 60, 1);
	found[at++] = bpf_skb_change_head(skb, 20, 0);
	found[at++] = skb->len;
	found[at++] = bpf_skb_change_head(skb, 4, 1);
	found[at++] = bpf_skb_pull_data(skb, 0);
	found[at++] = bpf_skb_pull_data(skb, skb->len);
	found[at++] = bpf_skb_pull_data(skb, skb->len + 1);
	return skb->len;
}

/* What was proven of the frame has to be proven again after it changed. */
PROGRAM(again)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 before;

	if (data + 20 > end)
		return 1;
	before = ((__u8 *)data)[15];
	if (bpf_skb_change_head(skb, 8, 0))
		return 2;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + 28 > end)
		return 3;
	((__u8 *)data)[0] = before;
	((__u8 *)data)[27] ^= 0xff;
	return end - data;
}
