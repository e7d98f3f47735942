/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "owner.h"

/*
 * The owner of a listener. No process sends or receives on a listener, so its owner is the
 * process that called listen(). When that process is dead, the owner is the next process that
 * uses one of its connections, or has the listener open at a collection.
 */
struct listener {
	__u64 number;
	struct instance who;
};

/*
 * The key is the listener's address: a SYN-ACK carries a request_sock, and the verifier does not
 * accept the pointer to its listener as a socket, so the listener's storage cannot be used.
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

/* Processes that listen or have listened; the value is 1 if the process is dead. */
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
 * The number of the process to which the bytes of a socket are credited that no process has used
 * yet. It is NOBODY if the process that listened for it is dead, since another one may use it
 * later. self is the running process, for which this is not so: it may already be marked as dead
 * while it closes its sockets.
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
