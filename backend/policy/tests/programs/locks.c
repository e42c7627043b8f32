// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/* Spin locks, atomic operations and division. */
#include "program.h"

__s64 found[64];
__u64 shared = 10;
__u32 shared32 = 10;

struct account {
	struct bpf_spin_lock lock;
	__u32 changes;
	__u64 balance;
};

ARRAY(accounts, BPF_MAP_TYPE_ARRAY, 2, struct account);
ARRAY(open_accounts, BPF_MAP_TYPE_HASH, 4, struct account);

PROGRAM(lock)
{
	__u32 key = 1;
	struct account *account = bpf_map_lookup_elem(&accounts, &key), fresh = { .balance = 5 };

	if (!account)
		return 1;
	bpf_spin_lock(&account->lock);
	account->changes++;
	account->balance += skb->len;
	bpf_spin_unlock(&account->lock);
	found[60] = bpf_map_update_elem(&open_accounts, &key, &fresh, BPF_NOEXIST | BPF_F_LOCK);
	found[61] = bpf_map_update_elem(&open_accounts, &key, &fresh, BPF_ANY);
	account = bpf_map_lookup_elem(&open_accounts, &key);
	if (!account)
		return 2;
	bpf_spin_lock(&account->lock);
	account->balance *= 3;
	bpf_spin_unlock(&account->lock);
	fresh.balance = 77;
	found[62] = bpf_map_update_elem(&accounts, &key, &fresh, BPF_F_LOCK);
	return 0;
}

PROGRAM(atomics)
{
	int at = 0;
	__u64 len = skb->len;

	found[at++] = __sync_fetch_and_add(&shared, len);
	found[at++] = __sync_fetch_and_or(&shared, 0x100);
	found[at++] = __sync_fetch_and_and(&shared, ~1ULL);
	found[at++] = __sync_fetch_and_xor(&shared, 0xff00ff00ff);
	found[at++] = __sync_lock_test_and_set(&shared, 0x8000000000000001);
	found[at++] = __sync_val_compare_and_swap(&shared, 1, 2);
	found[at++] = __sync_val_compare_and_swap(&shared, 0x8000000000000001, len);
	__sync_fetch_and_add(&shared, -1);
	found[at++] = __sync_fetch_and_add(&shared32, -len);
	found[at++] = __sync_fetch_and_or(&shared32, 0x100);
	found[at++] = __sync_fetch_and_and(&shared32, ~1);
	found[at++] = __sync_fetch_and_xor(&shared32, 0xff00ff00);
	found[at++] = __sync_lock_test_and_set(&shared32, 0x80000001);
	found[at++] = __sync_val_compare_and_swap(&shared32, 0x80000001, 7);
	return at;
}

/* Numbers that the compiler cannot know. */
static __always_inline int divide(__u64 a, __u64 b, int at)
{
	found[at++] = a / b;
	found[at++] = a % b;
	found[at++] = (__u32)a / (__u32)b;
	found[at++] = (__u32)a % (__u32)b;
	found[at++] = a * b;
	found[at++] = a / 1000000007;
	found[at++] = (__s64)a >> (b & 63);
	found[at++] = a << (b & 63);
	return at;
}

PROGRAM(division)
{
	__u64 operands[4] = {};
	int at = 0;

	if (bpf_skb_load_bytes(skb, 14, operands, sizeof(operands)))
		return 1;
	at = divide(operands[0], operands[1], at);
	at = divide(operands[2], operands[3], at);
	at = divide(operands[0], operands[3] & 0xff, at);
	at = divide(operands[1], 0 & operands[0], at);
	return at;
}
