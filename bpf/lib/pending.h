/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "count.h"

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
#define PART_IS_BEING_MADE (~0U) /* its ifindex, until the rest of its key is there */

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
		struct count c = {
			.packets = take(&part->count.packets),
			.bytes = take(&part->count.bytes),
			.frames = take(&part->count.frames),
			.frame_bytes = take(&part->count.frame_bytes),
		};
		struct traffic_key key;

		if (!c.packets && !c.bytes)
			continue;
		key = part->key; /* read last: it was there before what was taken */
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
	was = __sync_val_compare_and_swap(&part->key.ifindex, 0, PART_IS_BEING_MADE);
	if (!was) {
		part->key.netns = key->netns;
		part->key.type = key->type;
		part->key.transport = key->transport;
		part->key.direction = key->direction;
		__sync_lock_test_and_set(&part->key.ifindex, key->ifindex);
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

/* The owner of a socket, or NULL: who last used it, where that is known by its address alone. */
static __always_inline struct owner *owner_of(void *sk)
{
	struct owner *owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	__u64 address;
	struct user *user;

	if (!with_users)
		return owner;
	address = address_of(sk);
	user = bpf_map_lookup_elem(&users, &address);
	if (!user)
		return owner;
	if (!owner)
		owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return NULL;
	if (owner->number != user->number) {
		owner->process = user->process;
		owner->number = user->number;
	}
	if (!owner->used) {
		owner->used = 1;
		settle(sk, owner->number);
	}
	return owner;
}
