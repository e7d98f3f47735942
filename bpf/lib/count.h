/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "owner.h"
#include "packet.h"

enum direction {
	TRANSMIT,
	RECEIVE,
};

/*
 * Whom the bytes of an interface belong to. ARRIVED is all that was received:
 * less what the others claimed of it, it is the account "unclaimed". WAITING is
 * what struct pending holds now, the one account that shrinks.
 */
enum account {
	ACCOUNT_PROCESS, /* its entries are in map traffic */
	ACCOUNT_ARRIVED,
	ACCOUNT_REQUEST,
	ACCOUNT_TIME_WAIT,
	ACCOUNT_KERNEL,
	ACCOUNT_FORWARDED,
	ACCOUNT_NO_SOCKET,
	ACCOUNT_UNOWNED,
	ACCOUNT_OVERFLOW,
	ACCOUNT_WAITING,
	ACCOUNT_CARRIED, /* a process's, on a device below the one where it is in map traffic */
};

struct traffic_key {
	__u64 number; /* the process's: struct process_entry */
	__u64 netns;  /* the device's: struct net's cookie */
	__u32 ifindex;
	__u16 type;      /* ethertype, host order; 0 where not asked for */
	__u8 transport;  /* IP protocol; 0 where not asked for */
	__u8 direction;  /* enum direction */
};

struct account_key {
	__u64 netns;
	__u32 ifindex;
	enum account account;
	enum direction direction;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct traffic_key);
	__type(value, struct count);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct account_key);
	__type(value, struct count);
} accounts SEC(".maps");

/*
 * The kernel fetches memory for the two above in advance, but when many entries are new
 * at once it may have none at hand. What finds none is counted here: user space adds
 * them up.
 */
#define SPARE_ENTRIES 256

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, SPARE_ENTRIES);
	__type(key, struct traffic_key);
	__type(value, struct count);
} spare_traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, SPARE_ENTRIES);
	__type(key, struct account_key);
	__type(value, struct count);
} spare_accounts SEC(".maps");

/* The entry of a key in a map, made if need be; NULL if there is no place or memory. */
static __always_inline struct count *entry_of(void *map, const void *key)
{
	struct count *value = bpf_map_lookup_elem(map, key), zero = {};

	if (value)
		return value;
	/* Another CPU may add it first, so the answer that counts is the second look. */
	bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

/*
 * The functions below that are not static are verified once, not at each call:
 * inlined, older verifiers give up on the number of ways through them. Their
 * pointers may be NULL for all the verifier knows.
 */

/* Adds from any context: a process's own addition may be interrupted by a softirq's. */
static __always_inline void add_count(struct count *to, const struct count *c)
{
	__sync_fetch_and_add(&to->packets, c->packets);
	__sync_fetch_and_add(&to->bytes, c->bytes);
	__sync_fetch_and_add(&to->frames, c->frames);
	__sync_fetch_and_add(&to->frame_bytes, c->frame_bytes);
}

/* True when the entry is new. */
__noinline int count_account(__u64 netns, __u32 ifindex, enum account account,
			     enum direction direction, const struct count *c)
{
	struct account_key key = {
		.netns = netns,
		.ifindex = ifindex,
		.account = account,
		.direction = direction,
	};
	struct count *value;
	bool new;

	if (!c)
		return false;
	value = bpf_map_lookup_elem(&accounts, &key);
	new = !value;
	if (new)
		value = entry_of(&accounts, &key);
	if (!value)
		value = entry_of(&spare_accounts, &key);
	if (!value) {
		/* Whoever claims a packet, it is in ACCOUNT_ARRIVED already. */
		if (direction == TRANSMIT || account == ACCOUNT_ARRIVED)
			book_n(BOOK_LOST_MAP_FULL, c->packets);
		return false;
	}
	add_count(value, c);
	return new;
}

/* Adds to a process, or to the account of those that found no place; true when the entry is new. */
__noinline int count_process(const struct traffic_key *whose, const struct count *c)
{
	struct traffic_key key;
	struct count *value;
	bool new;

	if (!whose || !c)
		return false;
	key = *whose; /* before 6.2 a map's key may not be an argument */
	if (key.number == NOBODY)
		return count_account(key.netns, key.ifindex, ACCOUNT_UNOWNED, key.direction, c);
	if (!is_beyond(key.number)) {
		value = bpf_map_lookup_elem(&traffic, &key);
		new = !value;
		if (new)
			value = entry_of(&traffic, &key);
		if (!value)
			value = entry_of(&spare_traffic, &key);
		if (value) {
			add_count(value, c);
			return new;
		}
	}
	return count_account(key.netns, key.ifindex, ACCOUNT_OVERFLOW, key.direction, c);
}
