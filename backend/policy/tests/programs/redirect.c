// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Verdicts and what stands behind them. */
#include "program.h"

__s64 found[24];

PROGRAM(redirects)
{
	int at = 0;

	found[at++] = bpf_redirect(1, 0);
	found[at++] = bpf_redirect(1, BPF_F_INGRESS);
	found[at++] = bpf_redirect(1, 2);
	found[at++] = bpf_redirect_neigh(1, 0, 0, 0);
	found[at++] = bpf_redirect_neigh(1, 0, 0, 1);
	found[at++] = bpf_redirect_peer(1, 0);
	found[at++] = bpf_redirect_peer(1, 1);
	return bpf_redirect(1, 0);
}

PROGRAM(routes)
{
	struct bpf_fib_lookup route = { .family = 2, .ifindex = 1 };
	int at = 10;

	found[at++] = bpf_fib_lookup(skb, &route, sizeof(route), 1 << 20);
	found[at++] = bpf_fib_lookup(skb, &route, sizeof(route) - 1, 0);
	return TC_ACT_OK;
}

PROGRAM(sizes)
{
	__u32 mtu = 0;

	found[16] = bpf_check_mtu(skb, 0, &mtu, 0, 8);
	found[17] = bpf_check_mtu(skb, 0, &mtu, 0, BPF_MTU_CHK_SEGS);
	found[18] = bpf_check_mtu(skb, 1, &mtu, 100, 0);
	found[19] = mtu;
	found[20] = bpf_check_mtu(skb, 1, &mtu, 0x20000, 0);
	found[21] = bpf_check_mtu(skb, 999999, &mtu, 0, 0);
	return TC_ACT_PIPE;
}
