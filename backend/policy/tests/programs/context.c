// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Every field of the context that programs may read, whole and in parts, and those that they may write. */
#include "program.h"

__u64 found[40];
__u64 parts[16];

PROGRAM(read)
{
	int at = 0;

	found[at++] = skb->len;
	found[at++] = skb->pkt_type;
	found[at++] = skb->mark;
	found[at++] = skb->queue_mapping;
	found[at++] = skb->protocol;
	found[at++] = skb->vlan_present;
	found[at++] = skb->vlan_tci;
	found[at++] = skb->vlan_proto;
	found[at++] = skb->priority;
	found[at++] = skb->ingress_ifindex;
	found[at++] = skb->ifindex;
	found[at++] = skb->tc_index;
	found[at++] = skb->cb[0];
	found[at++] = skb->cb[1];
	found[at++] = skb->cb[2];
	found[at++] = skb->cb[3];
	found[at++] = skb->cb[4];
	found[at++] = skb->hash;
	found[at++] = skb->tc_classid;
	found[at++] = (void *)(long)skb->data_end - (void *)(long)skb->data;
	found[at++] = skb->napi_id;
	found[at++] = (void *)(long)skb->data - (void *)(long)skb->data_meta;
	found[at++] = skb->tstamp;
	found[at++] = skb->gso_segs;
	found[at++] = skb->gso_size;
	found[at++] = skb->hwtstamp;
	found[at++] = skb->tstamp_type;
	return at;
}

#define PART(TYPE, FIELD, AT) (*(volatile TYPE *)((void *)&skb->FIELD + (AT)))

PROGRAM(read_parts)
{
	parts[0] = PART(__u8, len, 0);
	parts[1] = PART(__u16, len, 0);
	parts[2] = PART(__u8, len, 1);
	parts[3] = PART(__u16, mark, 2);
	parts[4] = PART(__u8, mark, 3);
	parts[5] = PART(__u8, cb[1], 2);
	parts[6] = PART(__u16, cb[4], 2);
	parts[7] = PART(__u64, cb[2], 0);
	parts[8] = PART(__u8, protocol, 1);
	parts[9] = PART(__u16, priority, 2);
	return 0;
}

PROGRAM(write)
{
	PART(__u32, mark, 0) = 0x11223344;
	skb->priority += 5;
	PART(__u32, queue_mapping, 0) = 3;
	skb->tc_index = 9;
	skb->tc_classid = 0x10002;
	skb->tstamp = 0x123456789abcdef;
	for (int i = 0; i < 5; i++)
		skb->cb[i] = ~skb->cb[i] + i;
	PART(__u8, cb[2], 1) = 0x5a;
	PART(__u16, cb[3], 2) = 0xa5a5;
	PART(__u64, cb[0], 0) = 0xfedcba9876543210;
	found[0] = skb->mark;
	found[1] = skb->priority;
	found[2] = skb->queue_mapping;
	found[3] = skb->tc_index;
	found[4] = skb->tc_classid;
	found[5] = skb->tstamp;
	found[6] = skb->cb[2];
	return skb->cb[1];
}

/* Of frames that are not to be cut into segments it is their length. */
PROGRAM(read_wire_len)
{
	found[36] = skb->wire_len;
	return 0;
}

PROGRAM(hashes)
{
	found[30] = bpf_set_hash(skb, 0x12345678);
	found[31] = bpf_get_hash_recalc(skb);
	bpf_set_hash_invalid(skb);
	found[32] = skb->hash;
	found[33] = bpf_skb_ecn_set_ce(skb);
	found[34] = bpf_get_route_realm(skb);
	found[35] = bpf_get_cgroup_classid(skb);
	return 0;
}
