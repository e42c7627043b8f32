// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* VLAN tags. */
#include "program.h"

__s64 found[32];

static __always_inline int note(struct __sk_buff *skb, int at, __s64 result)
{
	found[at++] = result;
	found[at++] = skb->len;
	found[at++] = skb->vlan_present;
	found[at++] = skb->vlan_tci;
	found[at++] = skb->vlan_proto;
	found[at++] = skb->protocol;
	return at;
}

PROGRAM(push)
{
	int at = note(skb, 0, bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 0x2064));

	return note(skb, at, bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), 7));
}

PROGRAM(pop)
{
	int at = note(skb, 12, bpf_skb_vlan_pop(skb));

	return note(skb, at, bpf_skb_vlan_pop(skb));
}

PROGRAM(both)
{
	int at = note(skb, 0, bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021AD), 100));

	at = note(skb, at, bpf_skb_vlan_pop(skb));
	at = note(skb, at, bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 0xfff));
	at = note(skb, at, bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 1));
	found[at++] = bpf_skb_vlan_pop(skb);
	found[at++] = bpf_skb_vlan_push(skb, bpf_htons(ETH_P_IP), 1);
	return at;
}
