// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Limits octets per second with a token bucket for each device, whatever number of queues or workers it sends with.
 *
 *   limits   hash  { ifindex of the receiver }  ->  { rate in octets a second, burst in octets }
 *   buckets  hash  { ifindex of the receiver }  ->  { lock, billionths of a token, tokens, time, passed, dropped }
 *
 * The program sees the receiving device's ifindex; entry 0 of `limits` is for devices that have none of their own. A
 * device without any passes. Rates of up to 10^13 octets a second are kept exactly. What is longer than the burst never
 * passes.
 */
#include "netkit.h"

#define NANOSECONDS 1000000000ULL
#define RATE_MAX 10000000000000ULL

struct limit {
	__u64 rate;
	__u64 burst;
};

struct bucket {
	struct bpf_spin_lock lock;
	__u32 fraction;
	__u64 tokens;
	__u64 time;
	__u64 passed;
	__u64 dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct limit);
} limits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

static __always_inline struct bucket *bucket_of(__u32 ifindex, const struct limit *limit)
{
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &ifindex);
	struct bucket full = {};

	if (bucket)
		return bucket;
	full.tokens = limit->burst;
	full.time = bpf_ktime_get_ns();
	bpf_map_update_elem(&buckets, &ifindex, &full, BPF_NOEXIST);
	return bpf_map_lookup_elem(&buckets, &ifindex);
}

/* Adds the tokens of the time since the last frame, to the billionth. Called with the lock held. */
static __always_inline void fill(struct bucket *bucket, __u64 now, __u64 rate, __u64 burst)
{
	__u64 elapsed, seconds, thousands, tokens, fraction, room;

	if (bucket->tokens > burst)
		bucket->tokens = burst;
	/* Another processor may have been here with a later time. */
	if (now <= bucket->time)
		return;
	elapsed = now - bucket->time;
	bucket->time = now;
	seconds = elapsed / NANOSECONDS;
	elapsed %= NANOSECONDS;
	/* No product overflows: elapsed * rate would, so the rate's thousands are multiplied first, and then the rest. */
	thousands = elapsed * (rate / 1000);
	fraction = thousands % 1000000 * 1000 + elapsed * (rate % 1000) + bucket->fraction;
	tokens = thousands / 1000000 + fraction / NANOSECONDS;
	room = burst - bucket->tokens;
	if (tokens >= room || (rate && seconds > (room - tokens) / rate)) {
		bucket->tokens = burst;
		bucket->fraction = 0;
	} else {
		bucket->tokens += tokens + seconds * rate;
		bucket->fraction = fraction % NANOSECONDS;
	}
}

static __always_inline int rate_limit(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, any = 0, len = skb->wire_len;
	struct limit *limit = bpf_map_lookup_elem(&limits, &ifindex);
	__u64 now = bpf_ktime_get_ns(), rate, burst;
	struct bucket *bucket;
	int pass;

	if (!limit)
		limit = bpf_map_lookup_elem(&limits, &any);
	if (!limit)
		return NETKIT_NEXT;
	rate = limit->rate < RATE_MAX ? limit->rate : RATE_MAX;
	burst = limit->burst;
	bucket = bucket_of(ifindex, limit);
	if (!bucket)
		return NETKIT_DROP;

	bpf_spin_lock(&bucket->lock);
	fill(bucket, now, rate, burst);
	pass = bucket->tokens >= len;
	if (pass) {
		bucket->tokens -= len;
		bucket->passed++;
	} else {
		bucket->dropped++;
	}
	bpf_spin_unlock(&bucket->lock);
	return pass ? NETKIT_NEXT : NETKIT_DROP;
}

SEC("netkit/peer")
int rate_limit_guest(struct __sk_buff *skb)
{
	return rate_limit(skb);
}

SEC("netkit/primary")
int rate_limit_host(struct __sk_buff *skb)
{
	return rate_limit(skb);
}
