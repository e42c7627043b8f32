// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs that look at frames, change them, and send them elsewhere. */
#include "programs.h"

/* The verdict is given as it is. */
SEC("netkit/primary")
int code(struct __sk_buff *skb)
{
	append(0, 1);
	return given(0);
}

SEC("netkit/primary")
int redirect(struct __sk_buff *skb)
{
	int code = bpf_redirect(given(0), given(1));

	note(0, code);
	return code;
}

/* Asks for a redirect, and may return something else. */
SEC("netkit/primary")
int half_redirect(struct __sk_buff *skb)
{
	note(0, bpf_redirect(given(0), given(1)));
	return verdict(2);
}

SEC("netkit/primary")
int redirect_peer(struct __sk_buff *skb)
{
	int code = bpf_redirect_peer(given(0), given(1));

	note(0, code);
	return code;
}

SEC("netkit/primary")
int redirect_neigh(struct __sk_buff *skb)
{
	int code = bpf_redirect_neigh(given(0), NULL, 0, given(1));

	note(0, code);
	return code;
}

SEC("netkit/primary")
int clone(struct __sk_buff *skb)
{
	append(1, 1);
	note(0, bpf_clone_redirect(skb, given(0), given(1)));
	return verdict(2);
}

/* The redirect is asked for before the copy is made. */
SEC("netkit/primary")
int redirect_and_clone(struct __sk_buff *skb)
{
	int code = bpf_redirect(given(0), given(1));

	note(0, bpf_clone_redirect(skb, given(2), given(3)));
	return code;
}

SEC("netkit/primary")
int fields(struct __sk_buff *skb)
{
	append(0, 1);
	note(1, skb->len);
	note(2, skb->pkt_type);
	note(3, skb->mark);
	note(4, skb->queue_mapping);
	note(5, skb->protocol);
	note(6, skb->vlan_present);
	note(7, skb->vlan_tci);
	note(8, skb->vlan_proto);
	note(9, skb->priority);
	note(10, skb->ingress_ifindex);
	note(11, skb->ifindex);
	note(12, skb->tc_index);
	note(13, skb->cb[0]);
	note(14, skb->cb[1]);
	note(15, skb->cb[2]);
	note(16, skb->cb[3]);
	note(17, skb->cb[4]);
	note(18, skb->hash);
	note(19, skb->tc_classid);
	note(20, skb->data_end - skb->data);
	note(21, skb->data_meta - skb->data);
	note(22, skb->napi_id);
	note(23, skb->tstamp);
	note(24, skb->wire_len);
	note(25, skb->gso_segs);
	note(26, skb->gso_size);
	note(27, bpf_get_cgroup_classid(skb));
	note(28, bpf_get_route_realm(skb));
	return verdict(0);
}

/* Writes whatever fields can be written. */
SEC("netkit/primary")
int stamp(struct __sk_buff *skb)
{
	skb->mark = given(0);
	skb->priority = given(1);
	skb->queue_mapping = given(2);
	skb->tc_index = given(3);
	skb->tc_classid = given(4);
	skb->cb[0] = given(5);
	skb->cb[1] = given(6);
	skb->cb[2] = given(7);
	skb->cb[3] = given(8);
	skb->cb[4] = given(9);
	if (given(10))
		bpf_set_hash(skb, given(10));
	if (given(11))
		skb->tstamp = given(11);
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int change_type(struct __sk_buff *skb)
{
	note(0, bpf_skb_change_type(skb, given(0)));
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int push_tag(struct __sk_buff *skb)
{
	note(0, bpf_skb_vlan_push(skb, bpf_htons(given(0)), given(1)));
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int pop_tag(struct __sk_buff *skb)
{
	note(0, bpf_skb_vlan_pop(skb));
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int change_tail(struct __sk_buff *skb)
{
	note(0, bpf_skb_change_tail(skb, given(0), 0));
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int change_head(struct __sk_buff *skb)
{
	note(0, bpf_skb_change_head(skb, given(0), 0));
	return NETKIT_NEXT;
}

/* The case of the kernel's selftest: IPv4 to the host becomes multicast. */
SEC("netkit/primary")
int seen(struct __sk_buff *skb)
{
	struct ethhdr eth = {};

	append(0, 1);
	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return NETKIT_NEXT;
	note(1, eth.h_proto == bpf_htons(ETH_P_IP));
	note(2, skb->pkt_type == PACKET_HOST);
	if (skb->pkt_type != PACKET_HOST || !given(0))
		return NETKIT_NEXT;
	eth.h_dest[0] = 4;
	note(3, bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0));
	note(4, bpf_skb_change_type(skb, PACKET_MULTICAST));
	return NETKIT_NEXT;
}
