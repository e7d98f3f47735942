/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../traffic/count.h"

/*
 * What a socket moved before any process sent or received on it. It is kept with the
 * socket and credited to the first process that does: bytes that wait for a worker's
 * accept belong to the worker and not to its master.
 */
struct waiting {
	struct traffic_key key; /* number is filled in when it is credited */
	struct count count;
};

#define WAITING_PARTS 4 /* two devices, two directions */
#define PART_IS_BEING_MADE (~0U) /* its ifindex, until the rest of its key is there */

struct pending {
	__u64 since_ns; /* CLOCK_MONOTONIC */
	__u32 taken;    /* from now on, whoever adds to it also credits it */
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

/* Credits what is kept in p to number. If two do so at once, each credits what it took. */
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
		add_to_process(&key, &c);
		negate(&c);
		add_to_account(key.netns, key.ifindex, ACCOUNT_WAITING, key.direction, &c);
	}
	return 0;
}

/* Adds to a part if it is free or belongs to the same key; false if it belongs to another one. */
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
