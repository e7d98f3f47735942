/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "owner.h"

/*
 * Who listens. Nobody sends or receives on a listener, so its owner is the process
 * that made it one, until that is dead: then it is the next one that uses one of its
 * connections, or has it open at a collection.
 */
struct listener {
	__u64 number;
	struct instance who;
};

/*
 * By address, for a SYN-ACK carries a request_sock, and the verifier does not let
 * its listener be used as a socket.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct listener);
} listeners SEC(".maps");

/* The address of the listener of a request. */
static __always_inline __u64 listener_of(struct sock *request)
{
	return (__u64)BPF_CORE_READ((struct request_sock *)request, __req_common.skc_listener);
}

/* Processes that listen or have listened, and whether they are dead. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct instance);
	__type(value, __u32);
} deaths SEC(".maps");

static __always_inline bool is_dead(const struct instance *who)
{
	__u32 *dead = bpf_map_lookup_elem(&deaths, who);

	return dead && *dead;
}

static __always_inline bool is_orphan(const struct listener *l)
{
	return is_dead(&l->who);
}

/*
 * Whose the bytes of a socket are that nobody has used. NOBODY's, for now, where
 * the process that listened for it is dead; self is one that may be said to be dead
 * and is at its last deeds.
 */
__noinline __u64 heir_of(const struct owner *owner, __u64 self_start_ns, __u32 self_pid)
{
	struct instance self = { .start_ns = self_start_ns, .pid = self_pid };
	struct listener *l = NULL;
	__u64 number, listener;

	if (!owner)
		return NOBODY;
	number = READ_ONCE(owner->number);
	listener = owner->listener;
	if (is_used(number))
		return number;
	if (listener)
		l = bpf_map_lookup_elem(&listeners, &listener);
	if (l)
		return is_orphan(l) && !is_same_instance(&l->who, &self) ? NOBODY : l->number;
	if (number)
		return number | USED;
	return owner->maker.pid ? number_of_maker(&owner->maker) : NOBODY;
}
