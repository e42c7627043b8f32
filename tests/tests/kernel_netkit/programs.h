/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What the programs of the scenarios share: words that they are given, and words that they leave behind. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* enum netkit_action of linux/if_link.h, which older headers lack */
#define NETKIT_NEXT -1
#define NETKIT_PASS 0

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u32);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} notes SEC(".maps");

static __always_inline __u32 given(__u32 index)
{
	__u32 *word = bpf_map_lookup_elem(&config, &index);

	return word ? *word : 0;
}

static __always_inline void note(__u32 index, __u32 value)
{
	__u32 *word = bpf_map_lookup_elem(&notes, &index);

	if (word)
		*word = value;
}

static __always_inline void append(__u32 index, __u32 digit)
{
	__u32 *word = bpf_map_lookup_elem(&notes, &index);

	if (word)
		*word = *word * 10 + digit;
}

/* The verdict that is in a word: one less, so that a word that nobody wrote is NEXT. */
static __always_inline int verdict(__u32 index)
{
	return (int)given(index) - 1;
}
