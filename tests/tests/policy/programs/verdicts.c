// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs with one verdict each, and programs that leave a trace of the order in which they ran. */
#include "netkit.h"

SEC("netkit/primary")
int next(struct __sk_buff *skb)
{
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int pass(struct __sk_buff *skb)
{
	return NETKIT_PASS;
}

SEC("netkit/primary")
int drop(struct __sk_buff *skb)
{
	return NETKIT_DROP;
}

SEC("netkit/primary")
int unknown(struct __sk_buff *skb)
{
	return 3;
}

SEC("netkit/primary")
int redirect_nowhere(struct __sk_buff *skb)
{
	return bpf_redirect(0x7ffffffe, 0);
}

/* The verdict alone, without a word about where to. */
SEC("netkit/primary")
int redirect_unsaid(struct __sk_buff *skb)
{
	return NETKIT_REDIRECT;
}

/* No kernel would load this. */
SEC("netkit/primary")
int fault(struct __sk_buff *skb)
{
	*(volatile __u32 *)(long)(skb->mark + 16) = 1;
	return NETKIT_PASS;
}

/* The mark collects one hexadecimal digit of each program. */
static __always_inline int digit(struct __sk_buff *skb, __u32 digit)
{
	skb->mark = skb->mark << 4 | digit;
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int a(struct __sk_buff *skb)
{
	return digit(skb, 0xa);
}

SEC("netkit/primary")
int b(struct __sk_buff *skb)
{
	return digit(skb, 0xb);
}

SEC("netkit/primary")
int c(struct __sk_buff *skb)
{
	return digit(skb, 0xc);
}

/* Writes the mark behind the Ethernet header. */
SEC("netkit/primary")
int show(struct __sk_buff *skb)
{
	__be32 mark = bpf_htonl(skb->mark);

	bpf_skb_store_bytes(skb, ETH_HLEN, &mark, sizeof(mark), 0);
	return NETKIT_NEXT;
}
