/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "owner.h"

/*
 * What this CPU knows of the sockets it met last: the process they belong to, without a
 * look at their storage. All of it is forgotten whenever any socket gets another owner or
 * is closed. It is written where bottom halves are off, and read anywhere.
 */
#define KNOWN 64

struct known {
	__u64 sk;
	__u64 number; /* is_used() */
	__u64 handovers;
	__u64 pad;
};

/* A thread whose process's mark is known. What it has is read again each time; the mark follows from it. */
struct known_thread {
	__u64 task;
	__u64 start_ns;
	__u64 cred;
	__u32 exec_id;
	__u32 mark; /* crossed with start_ns: when two threads come in between each other it is no mark */
};

struct knowledge {
	struct known by[KNOWN];
	struct known_thread thread;
	__u64 sk; /* of the socket at hand */
};

/* User space makes it small where soft interrupts may be preempted, and where owners change unseen. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct knowledge);
} knowledge SEC(".maps");

/* How often a socket got another owner or was closed. */
__u64 handovers SEC(".data.shared");

/* A socket has another owner from now on: it is called after that was written. */
static __always_inline void forget_known(void)
{
	__sync_fetch_and_add(&handovers, 1);
}

static __always_inline struct knowledge *knowledge_here(void)
{
	__u32 one = 1;

	return bpf_map_lookup_elem(&knowledge, &one);
}

/* Where a socket is known, if it is. */
static __always_inline struct known *known_at(struct knowledge *k, const void *sk)
{
	__u64 address = address_through(&k->sk, sk);

	return &k->by[address >> 7 & (KNOWN - 1)];
}

static __always_inline __u64 number_in(struct knowledge *k, const void *sk)
{
	struct known *known = known_at(k, sk);
	__u64 number;

	if (READ_ONCE(known->sk) != (__u64)sk || known->handovers != READ_ONCE(handovers))
		return NOBODY;
	number = READ_ONCE(known->number);
	return READ_ONCE(known->sk) == (__u64)sk ? number : NOBODY; /* a softirq may have come in between */
}

/* The number of the process that a socket belongs to; NOBODY where that is not known here. */
static __always_inline __u64 known_number(const void *sk)
{
	struct knowledge *k = knowledge_here();

	return k ? number_in(k, sk) : NOBODY;
}

/* Notes whose a socket is, with bottom halves off; since is handovers before its owner was read. */
static __always_inline void note_known(const void *sk, const struct owner *owner, __u64 number, __u64 since)
{
	struct knowledge *k = knowledge_here();
	struct known *known;

	if (!k || !is_used(number) || owner->subflow)
		return;
	known = known_at(k, sk);
	known->sk = (__u64)sk;
	known->number = number;
	known->handovers = since;
}

/* The running process's mark. */
static __always_inline __u32 current_mark(struct knowledge *k)
{
	struct task_struct *task = current_task(), *leader = task->group_leader;
	struct known_thread *known = &k->thread;
	struct process process;
	__u32 mark;

	if (known->task == (__u64)task && known->start_ns == leader->start_boottime &&
	    known->cred == (__u64)leader->cred && known->exec_id == (__u32)task->self_exec_id)
		return READ_ONCE(known->mark) ^ (__u32)leader->start_boottime;
	process = current_process();
	mark = mark_of(&process);
	known->task = (__u64)task;
	known->start_ns = leader->start_boottime;
	known->cred = (__u64)leader->cred;
	known->exec_id = task->self_exec_id;
	known->mark = mark ^ (__u32)leader->start_boottime;
	return mark;
}

/* Whether sk is known to belong to the running process. */
static __always_inline bool is_known_user(const void *sk)
{
	struct knowledge *k = knowledge_here();

	return k && (__u32)number_in(k, sk) == current_mark(k);
}
