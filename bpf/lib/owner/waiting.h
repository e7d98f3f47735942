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

/*
 * The same by the socket's address, where the kernel lets no program go through the storage of all sockets.
 */
const volatile bool with_pending_addresses;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* user space sets the size if the map is used */
	__type(key, __u64);
	__type(value, struct pending);
} pendings_by_address SEC(".maps");

const struct pending nothing_waits = {};

/* What waits with a socket, or NULL. */
static __always_inline struct pending *pending_of(void *sk)
{
	__u64 address;

	if (!with_pending_addresses)
		return bpf_sk_storage_get(&pendings, sk, 0, 0);
	address = address_of(sk);
	return bpf_map_lookup_elem(&pendings_by_address, &address);
}

/* The same, with a place for it if there is none; NULL if there is no room. */
static __always_inline struct pending *make_pending(void *sk)
{
	struct pending *p;
	__u64 address;

	if (!with_pending_addresses)
		return bpf_sk_storage_get(&pendings, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	p = pending_of(sk);
	if (p)
		return p;
	address = address_of(sk);
	bpf_map_update_elem(&pendings_by_address, &address, &nothing_waits, BPF_NOEXIST);
	return bpf_map_lookup_elem(&pendings_by_address, &address);
}

static __always_inline void forget_pending(void *sk)
{
	__u64 address;

	if (!with_pending_addresses) {
		bpf_sk_storage_delete(&pendings, sk);
		return;
	}
	address = address_of(sk);
	bpf_map_delete_elem(&pendings_by_address, &address);
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
