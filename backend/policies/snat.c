// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Source NAT for IPv4: what the guest sends leaves under another address, and answers find their way back.
 *
 * snat_guest runs on what the guest sends, snat_host on what is sent to the guest. TCP, UDP and ICMP echo; ports are kept
 * where they are free and chosen anew where not.
 *
 *   outside   array  { IPv4 address that the guest has outside, 0 is off; first and last port }
 *   forward   lru_hash  { guest's address and port, remote address and port, protocol }  ->  { port outside }
 *   backward  lru_hash  { remote address and port, port outside, protocol }  ->  { guest's address and port }
 *   failed    percpu_array  { packets for which no port was free }
 */
#include "netkit.h"

#define TRIES 32
#define TCP_CHECKSUM 16
#define UDP_CHECKSUM 6
#define ICMP_CHECKSUM 2
#define ICMP_IDENTIFIER 4
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO_REQUEST 8

struct outside {
	__be32 address;
	__u16 first_port;
	__u16 last_port;
};

struct inner {
	__be32 guest, remote;
	__be16 guest_port, remote_port;
	__u8 protocol;
	__u8 pad[3];
};

struct outer {
	__be32 remote;
	__be16 remote_port, port;
	__u8 protocol;
	__u8 pad[3];
};

struct origin {
	__be32 guest;
	__be16 port;
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct outside);
} outside SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct inner);
	__type(value, __be16);
} forward SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct outer);
	__type(value, struct origin);
} backward SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} failed SEC(".maps");

/* Where a packet's addresses and ports are. */
struct packet {
	__be32 source, destination;
	__be16 source_port, destination_port;
	__u32 transport;
	__u8 protocol;
};

static __always_inline int read_packet(struct __sk_buff *skb, struct packet *packet)
{
	struct headers headers;

	pull_headers(skb);
	if (parse_headers(skb, &headers) || headers.ipv6 || headers.later_fragment)
		return -1;
	packet->source = headers.flow.source.word[3];
	packet->destination = headers.flow.destination.word[3];
	packet->source_port = headers.flow.source_port;
	packet->destination_port = headers.flow.destination_port;
	packet->transport = headers.transport;
	packet->protocol = headers.flow.protocol;
	if (packet->protocol == IPPROTO_ICMP) {
		__u8 type;
		__be16 identifier;

		if (bpf_skb_load_bytes(skb, packet->transport, &type, sizeof(type)) ||
		    bpf_skb_load_bytes(skb, packet->transport + ICMP_IDENTIFIER, &identifier, sizeof(identifier)))
			return -1;
		if (type != ICMP_ECHO_REQUEST && type != ICMP_ECHO_REPLY)
			return -1;
		packet->source_port = type == ICMP_ECHO_REQUEST ? identifier : 0;
		packet->destination_port = type == ICMP_ECHO_REPLY ? identifier : 0;
		return 0;
	}
	return packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP ? 0 : -1;
}

/* Changes an address and a port, and the checksums that cover them. */
static __always_inline int rewrite(struct __sk_buff *skb, const struct packet *packet, __u32 address_at, __be32 old_address,
				   __be32 new_address, __u32 port_at, __be16 old_port, __be16 new_port)
{
	__u32 checksum_at = packet->transport, flags = 0;

	if (packet->protocol == IPPROTO_TCP)
		checksum_at += TCP_CHECKSUM;
	else if (packet->protocol == IPPROTO_UDP)
		checksum_at += UDP_CHECKSUM, flags = BPF_F_MARK_MANGLED_0;
	else
		checksum_at += ICMP_CHECKSUM;
	/* ICMP's checksum does not cover the addresses. */
	if (packet->protocol != IPPROTO_ICMP &&
	    bpf_l4_csum_replace(skb, checksum_at, old_address, new_address, flags | BPF_F_PSEUDO_HDR | sizeof(new_address)))
		return -1;
	if (bpf_l4_csum_replace(skb, checksum_at, old_port, new_port, flags | sizeof(new_port)))
		return -1;
	if (bpf_l3_csum_replace(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, check), old_address, new_address,
				sizeof(new_address)))
		return -1;
	if (bpf_skb_store_bytes(skb, address_at, &new_address, sizeof(new_address), 0))
		return -1;
	return bpf_skb_store_bytes(skb, port_at, &new_port, sizeof(new_port), 0);
}

/* Finds a port that no other flow to the same remote has outside; 0 if there is none. */
static __always_inline __be16 claim_port(const struct outside *mine, const struct inner *inner)
{
	struct outer outer = { .remote = inner->remote, .remote_port = inner->remote_port, .protocol = inner->protocol };
	struct origin origin = { .guest = inner->guest, .port = inner->guest_port };
	__u32 span = mine->last_port - mine->first_port + 1;
	__u32 port = bpf_ntohs(inner->guest_port);

	if (mine->last_port < mine->first_port)
		return 0;
	if (port < mine->first_port || port > mine->last_port)
		port = mine->first_port + bpf_get_prandom_u32() % span;
	for (int i = 0; i < TRIES; i++) {
		outer.port = bpf_htons(port);
		if (bpf_map_update_elem(&backward, &outer, &origin, BPF_NOEXIST) == 0)
			return outer.port;
		port = mine->first_port + bpf_get_prandom_u32() % span;
	}
	return 0;
}

static __always_inline int fail(void)
{
	__u32 key = 0;
	__u64 *count = bpf_map_lookup_elem(&failed, &key);

	if (count)
		(*count)++;
	return NETKIT_DROP;
}

SEC("netkit/peer")
int snat_guest(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct inner inner = {};
	struct outside *mine;
	__be16 port, *known;
	__u32 key = 0;

	mine = bpf_map_lookup_elem(&outside, &key);
	if (!mine || !mine->address || read_packet(skb, &packet))
		return NETKIT_NEXT;
	inner.guest = packet.source;
	inner.guest_port = packet.source_port;
	inner.remote = packet.destination;
	inner.remote_port = packet.destination_port;
	inner.protocol = packet.protocol;
	known = bpf_map_lookup_elem(&forward, &inner);
	if (known) {
		port = *known;
	} else {
		port = claim_port(mine, &inner);
		if (!port)
			return fail();
		bpf_map_update_elem(&forward, &inner, &port, BPF_ANY);
	}
	if (rewrite(skb, &packet, ETH_HLEN + __builtin_offsetof(struct iphdr, saddr), packet.source, mine->address,
		    packet.protocol == IPPROTO_ICMP ? packet.transport + ICMP_IDENTIFIER : packet.transport,
		    packet.source_port, port))
		return NETKIT_DROP;
	return NETKIT_NEXT;
}

SEC("netkit/primary")
int snat_host(struct __sk_buff *skb)
{
	struct packet packet = {};
	struct outer outer = {};
	struct outside *mine;
	struct origin *origin;
	__u32 key = 0;

	mine = bpf_map_lookup_elem(&outside, &key);
	if (!mine || !mine->address || read_packet(skb, &packet) || packet.destination != mine->address)
		return NETKIT_NEXT;
	outer.remote = packet.source;
	outer.remote_port = packet.source_port;
	outer.port = packet.destination_port;
	outer.protocol = packet.protocol;
	origin = bpf_map_lookup_elem(&backward, &outer);
	if (!origin)
		return NETKIT_NEXT;
	if (rewrite(skb, &packet, ETH_HLEN + __builtin_offsetof(struct iphdr, daddr), packet.destination, origin->guest,
		    packet.protocol == IPPROTO_ICMP ? packet.transport + ICMP_IDENTIFIER : packet.transport + 2,
		    packet.destination_port, origin->port))
		return NETKIT_DROP;
	return NETKIT_NEXT;
}
