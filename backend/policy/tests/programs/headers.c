// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Walks through headers: tags, IPv4 and TCP options, IPv6 extension headers; hashes what it finds. */
#include "program.h"

__u64 found[32];

struct tag {
	__be16 tci, type;
};

struct key {
	__u32 source[4], destination[4];
	__u32 ports;
	__u32 protocol;
};

ARRAY(flows, BPF_MAP_TYPE_HASH, 64, __u64);

#define ROTATE(WORD, BITS) ((WORD) << (BITS) | (WORD) >> (32 - (BITS)))

/* Bob Jenkins' lookup3 */
static __always_inline __u32 hash(const __u32 *words, __u32 count, __u32 seed)
{
	__u32 a, b, c;

	a = b = c = 0xdeadbeef + (count << 2) + seed;
	for (__u32 i = 0; i + 3 <= count; i += 3) {
		a += words[i];
		b += words[i + 1];
		c += words[i + 2];
		a -= c, a ^= ROTATE(c, 4), c += b;
		b -= a, b ^= ROTATE(a, 6), a += c;
		c -= b, c ^= ROTATE(b, 8), b += a;
		a -= c, a ^= ROTATE(c, 16), c += b;
		b -= a, b ^= ROTATE(a, 19), a += c;
		c -= b, c ^= ROTATE(b, 4), b += a;
	}
	return c;
}

static __always_inline int options(struct __sk_buff *skb, __u32 at, __u32 end)
{
	__u8 kind, len;
	int count = 0;

	for (int i = 0; i < 40; i++) {
		if (at >= end || bpf_skb_load_bytes(skb, at, &kind, 1))
			break;
		if (kind == 0)
			break;
		if (kind == 1) {
			at++;
			continue;
		}
		if (bpf_skb_load_bytes(skb, at + 1, &len, 1) || len < 2)
			return -1;
		count = count * 10 + kind;
		at += len;
	}
	return count;
}

PROGRAM(headers)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;
	struct key key = {};
	__u32 at = ETH_HLEN, transport = 0, hashed;
	__be16 type;
	__u64 one = 1, *count;

	if (data + ETH_HLEN > end)
		return 1;
	type = ethernet->h_proto;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		struct tag *tag = data + ETH_HLEN + i * 4;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return 2;
		type = tag->type;
		found[0] += bpf_ntohs(tag->tci) & 0xfff;
		at += 4;
	}
	found[1] = at;
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.ihl < 5)
			return 3;
		key.source[3] = ip.saddr;
		key.destination[3] = ip.daddr;
		key.protocol = ip.protocol;
		found[2] = options(skb, at + sizeof(ip), at + ip.ihl * 4);
		transport = at + ip.ihl * 4;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;
		__u8 next, extension[2];

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
			return 4;
		__builtin_memcpy(key.source, &ip.saddr, 16);
		__builtin_memcpy(key.destination, &ip.daddr, 16);
		next = ip.nexthdr;
		transport = at + sizeof(ip);
		for (int i = 0; i < 8; i++) {
			if (next != 0 && next != 43 && next != 60)
				break;
			if (bpf_skb_load_bytes(skb, transport, extension, 2))
				return 5;
			next = extension[0];
			transport += (extension[1] + 1) * 8;
			found[3]++;
		}
		key.protocol = next;
	} else {
		return 6;
	}
	found[4] = transport;
	if (key.protocol == IPPROTO_TCP || key.protocol == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, transport, &key.ports, 4))
			return 7;
	}
	if (key.protocol == IPPROTO_TCP) {
		__u8 offset;

		if (bpf_skb_load_bytes(skb, transport + 12, &offset, 1))
			return 8;
		found[5] = options(skb, transport + 20, transport + (offset >> 4) * 4);
	}
	hashed = hash((__u32 *)&key, 9, key.protocol);
	found[6] = hashed;
	count = bpf_map_lookup_elem(&flows, &hashed);
	if (count)
		++*count;
	else
		bpf_map_update_elem(&flows, &hashed, &one, BPF_ANY);
	return hashed & 0xff;
}
