// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Drops what a guest sends under an address that is not its own: Ethernet, ARP, IPv4 or IPv6.
 *
 *   macs       hash  { Ethernet address and two zero octets }  ->  { nothing of meaning }
 *   addresses  hash  { IPv6 address, or IPv4 as ::ffff:a.b.c.d }  ->  { packets that passed }
 *   spoofed    percpu_array  0: wrong Ethernet address, 1: wrong IP address, 2: wrong ARP sender, 3: cut short
 *
 * IPv6 link-local and unspecified sources pass, as neighbour discovery needs them; so does the ARP probe (sender 0.0.0.0).
 * Set `check_macs` in .rodata to 0 before loading for a device in l3 mode, which has no Ethernet address.
 */
#include "netkit.h"

struct mac {
	__u8 octet[ETH_ALEN];
	__u8 pad[2];
};

struct arp {
	__be16 hardware, protocol;
	__u8 hardware_len, protocol_len;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_address[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_address[4];
} __attribute__((packed));

enum { SPOOFED_MAC, SPOOFED_ADDRESS, SPOOFED_ARP, CUT_SHORT, REASONS };

const volatile __u8 check_macs = 1;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct mac);
	__type(value, __u64);
} macs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u64);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS);
	__type(key, __u32);
	__type(value, __u64);
} spoofed SEC(".maps");

static __always_inline int drop(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&spoofed, &reason);

	if (count)
		(*count)++;
	return NETKIT_DROP;
}

static __always_inline int is_zero(const __u8 *octets, int len)
{
	__u8 any = 0;

	for (int i = 0; i < len; i++)
		any |= octets[i];
	return !any;
}

static __always_inline int differ(const __u8 *one, const __u8 *other)
{
	__u8 any = 0;

	for (int i = 0; i < ETH_ALEN; i++)
		any |= one[i] ^ other[i];
	return any;
}

static __always_inline int owns(const struct address *address)
{
	__u64 *count = bpf_map_lookup_elem(&addresses, address);

	if (!count)
		return 0;
	__sync_fetch_and_add(count, 1);
	return 1;
}

static __always_inline int check_arp(struct __sk_buff *skb, const struct mac *sender)
{
	struct arp arp;
	struct address address;
	__be32 ipv4;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return drop(CUT_SHORT);
	if (check_macs && differ(arp.sender_mac, sender->octet))
		return drop(SPOOFED_ARP);
	if (is_zero(arp.sender_address, sizeof(arp.sender_address)))
		return NETKIT_NEXT;
	__builtin_memcpy(&ipv4, arp.sender_address, sizeof(ipv4));
	address = ipv4_address(ipv4);
	return owns(&address) ? NETKIT_NEXT : drop(SPOOFED_ARP);
}

static __always_inline int may_be_anybodys(const struct headers *headers)
{
	const struct address *source = &headers->flow.source;

	if (!headers->ipv6)
		return 0;
	if (!(source->word[0] | source->word[1] | source->word[2] | source->word[3]))
		return 1;
	return (source->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

SEC("netkit/peer")
int anti_spoof(struct __sk_buff *skb)
{
	struct headers headers;
	struct mac mac = {};

	pull_headers(skb);
	if (bpf_skb_load_bytes(skb, ETH_ALEN, mac.octet, ETH_ALEN))
		return drop(CUT_SHORT);
	if (check_macs && !bpf_map_lookup_elem(&macs, &mac))
		return drop(SPOOFED_MAC);
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return check_arp(skb, &mac);
	switch (parse_headers(skb, &headers)) {
	case 0:
		break;
	case 1:
		return drop(SPOOFED_ADDRESS);
	default:
		return drop(CUT_SHORT);
	}
	if (may_be_anybodys(&headers) || owns(&headers.flow.source))
		return NETKIT_NEXT;
	return drop(SPOOFED_ADDRESS);
}
