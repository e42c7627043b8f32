/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What the programs of the tests share. What they find out they leave in `found`. */
#pragma once

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ARRAY(NAME, KIND, ENTRIES, VALUE)                                                                              \
	struct {                                                                                                       \
		__uint(type, KIND);                                                                                    \
		__uint(max_entries, ENTRIES);                                                                          \
		__type(key, __u32);                                                                                    \
		__type(value, VALUE);                                                                                  \
	} NAME SEC(".maps")

#define PROGRAM(NAME) SEC("tc") int NAME(struct __sk_buff *skb)

char LICENSE[] SEC("license") = "GPL";
