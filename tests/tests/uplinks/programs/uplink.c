// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Programs on an uplink: its ingress list sends frames to the device in the map `target`, its egress list counts frames
 * and drops those of the experimental Ethertype 0x88b5. */
#include "netkit.h"

#define TC_ACT_OK 0
#define TC_ACT_SHOT 2
#define TCX_NEXT -1
#define EXPERIMENTAL 0x88b5

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static __always_inline __u32 ifindex(void)
{
	__u32 key = 0, *value = bpf_map_lookup_elem(&target, &key);

	return value ? *value : 0;
}

static __always_inline void count(__u32 key)
{
	__u64 *value = bpf_map_lookup_elem(&seen, &key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("tcx/ingress")
int to_device(struct __sk_buff *skb)
{
	return bpf_redirect(ifindex(), 0);
}

SEC("tcx/ingress")
int to_peer(struct __sk_buff *skb)
{
	return bpf_redirect_peer(ifindex(), 0);
}

SEC("tcx/ingress")
int count_ingress(struct __sk_buff *skb)
{
	count(0);
	return TCX_NEXT;
}

SEC("tcx/egress")
int count_egress(struct __sk_buff *skb)
{
	count(1);
	return skb->protocol == bpf_htons(EXPERIMENTAL) ? TC_ACT_SHOT : TCX_NEXT;
}
