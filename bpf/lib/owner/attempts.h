/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/current.h"
#include "owner.h"

/*
 * Calls on sockets that have begun, and of which only their end tells whether they use the socket.
 * They are noted only if another process used the socket last.
 */
struct attempt {
	__u64 sk;
	__u64 number;       /* that the socket got; NOBODY: it gets another owner when the call has succeeded */
	struct user before; /* its user before the call */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* user space sets the size if the map is used */
	__type(key, __u64);     /* address of the thread */
	__type(value, struct attempt);
} attempts SEC(".maps");

/* Set by user space when the program is attached that sees calls end. */
bool sees_failures;

/* How many there are, or more. If there are none, a call that ends needs no look-up. */
__s64 under_way;

/* Notes the call that the running thread begins; false if it cannot. */
static __always_inline bool begin(const struct attempt *attempt)
{
	__u64 task = (__u64)current_task();

	if (!bpf_map_lookup_elem(&attempts, &task))
		__sync_fetch_and_add(&under_way, 1);
	return !bpf_map_update_elem(&attempts, &task, attempt, BPF_ANY);
}

/* The call that the running thread has begun, or NULL. */
static __always_inline struct attempt *attempt_here(void)
{
	__u64 task = (__u64)current_task();

	return under_way > 0 ? bpf_map_lookup_elem(&attempts, &task) : NULL;
}

static __always_inline void end_attempt(void)
{
	__u64 task = (__u64)current_task();

	if (!bpf_map_delete_elem(&attempts, &task))
		__sync_fetch_and_add(&under_way, -1);
}
