// Every section name under which a program runs on frames.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define PROGRAM(section, name)             \
	SEC(section)                       \
	int name(struct __sk_buff *skb)    \
	{                                  \
		return skb->len;           \
	}

PROGRAM("netkit/primary", primary)
PROGRAM("netkit/peer", peer)
PROGRAM("tc", tc_one)
PROGRAM("tc/ingress", tc_ingress)
PROGRAM("tc/egress", tc_egress)
PROGRAM("tcx/ingress", tcx_ingress)
PROGRAM("tcx/egress", tcx_egress)
PROGRAM("classifier", classifier_one)
PROGRAM("classifier/x", classifier_x)
PROGRAM("?action", action_one)
PROGRAM("tc", tc_two)

static __attribute__((noinline)) int beside(int number)
{
	return number * 5;
}

/* A static function that is in the section of its program. */
static __attribute__((noinline, section("tc"))) int within(int number)
{
	return number * 7 + beside(number);
}

SEC("tc")
int caller(struct __sk_buff *skb)
{
	return within(skb->len) + within(skb->mark);
}
