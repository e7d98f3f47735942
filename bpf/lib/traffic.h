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
 * What a socket moved before anyone sent or received on it. It is kept with the
 * socket and credited to the first who does: bytes that wait for a worker's
 * accept are the worker's, not its master's.
 */
struct waiting {
	struct traffic_key key; /* number is filled in when it is credited */
	struct count count;
};

#define WAITING_PARTS 4 /* two devices, two directions */

struct pending {
	__u64 since_ns; /* CLOCK_MONOTONIC */
	__u32 taken;    /* whoever adds from now on credits it himself */
	__u32 pad;
	struct waiting parts[WAITING_PARTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pending);
} pendings SEC(".maps");

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
	struct count *value, zero = {};
	bool new = false;

	if (!c)
		return false;
	value = bpf_map_lookup_elem(&accounts, &key);
	if (!value) {
		/* Another CPU may add it first, so the answer that counts is the second look. */
		new = !bpf_map_update_elem(&accounts, &key, &zero, BPF_NOEXIST);
		value = bpf_map_lookup_elem(&accounts, &key);
	}
	if (!value) {
		book_n(BOOK_LOST_MAP_FULL, c->packets);
		return false;
	}
	add_count(value, c);
	return new;
}

/* Adds to a process, or to the account of those that found no place; true when the entry is new. */
__noinline int count_process(const struct traffic_key *whose, const struct count *c)
{
	struct count *value, zero = {};
	struct traffic_key key;
	bool new = false;

	if (!whose || !c)
		return false;
	key = *whose; /* before 6.2 a map's key may not be an argument */
	if (key.number == NOBODY)
		return count_account(key.netns, key.ifindex, ACCOUNT_UNOWNED, key.direction, c);
	if (key.number != OVERFLOW) {
		value = bpf_map_lookup_elem(&traffic, &key);
		if (!value) {
			new = !bpf_map_update_elem(&traffic, &key, &zero, BPF_NOEXIST);
			value = bpf_map_lookup_elem(&traffic, &key);
		}
		if (value) {
			add_count(value, c);
			return new;
		}
	}
	return count_account(key.netns, key.ifindex, ACCOUNT_OVERFLOW, key.direction, c);
}

static __always_inline void negate(struct count *c)
{
	c->packets = -c->packets;
	c->bytes = -c->bytes;
	c->frames = -c->frames;
	c->frame_bytes = -c->frame_bytes;
}

static __always_inline __u64 take(__u64 *from)
{
	return __sync_lock_test_and_set(from, 0);
}

/* Credits what waits in p to number. Two may do it at once: each takes what he takes. */
__noinline int credit(struct pending *p, __u64 number)
{
	if (!p)
		return 0;
	p->taken = 1;
	for (int i = 0; i < WAITING_PARTS; i++) {
		struct waiting *part = &p->parts[i];
		struct traffic_key key = part->key;
		struct count c = {
			.packets = take(&part->count.packets),
			.bytes = take(&part->count.bytes),
			.frames = take(&part->count.frames),
			.frame_bytes = take(&part->count.frame_bytes),
		};

		if (!c.packets && !c.bytes)
			continue;
		key.number = number;
		count_process(&key, &c);
		negate(&c);
		count_account(key.netns, key.ifindex, ACCOUNT_WAITING, key.direction, &c);
	}
	return 0;
}

/* Adds to a part that is free or the same; false when it is another's. */
__noinline int keep_in_part(struct waiting *part, const struct traffic_key *key, const struct count *c)
{
	__u32 was;

	if (!part || !key || !c)
		return false;
	was = __sync_val_compare_and_swap(&part->key.ifindex, 0, key->ifindex);
	if (!was) {
		part->key.netns = key->netns;
		part->key.type = key->type;
		part->key.transport = key->transport;
		part->key.direction = key->direction;
	} else if (was != key->ifindex || part->key.netns != key->netns ||
		   part->key.direction != key->direction || part->key.type != key->type ||
		   part->key.transport != key->transport) {
		return false;
	}
	add_count(&part->count, c);
	return true;
}

/* Keeps c with the socket until someone uses it; true when the interface is new to us. */
static __always_inline bool count_unused(void *sk, struct owner *owner, struct traffic_key *key,
					 const struct count *c)
{
	struct pending *p = bpf_sk_storage_get(&pendings, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	bool kept = false, new;

	key->number = owner ? owner->number : NOBODY;
	if (!p)
		return count_process(key, c);
	if (!p->since_ns)
		p->since_ns = bpf_ktime_get_ns();
	for (int i = 0; i < WAITING_PARTS && !kept; i++)
		kept = keep_in_part(&p->parts[i], key, c);
	if (!kept)
		return count_process(key, c);
	new = count_account(key->netns, key->ifindex, ACCOUNT_WAITING, key->direction, c);
	if (__sync_fetch_and_add(&p->taken, 0))
		credit(p, key->number); /* its user came just now */
	return new;
}

/* Credits what waits with the socket, if anything does. */
static __always_inline bool settle(void *sk, __u64 number)
{
	struct pending *p = bpf_sk_storage_get(&pendings, sk, 0, 0);

	if (p)
		credit(p, number);
	return p;
}
