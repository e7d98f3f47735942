/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/cpu.h"
#include "../traffic/count.h"

/*
 * The owners of the sockets that this CPU met last, so that it does not have to look
 * into their storage. All of it becomes invalid when any socket gets another owner or
 * is closed. It is written only while bottom halves are off, and read anywhere.
 */
#define KNOWN 64

struct known {
	__u64 sk;
	__u64 number; /* by which its packets are counted: number_to_count() of its owner's, which is_used() */
	__u64 handovers;
	__u32 mark;  /* the low half of its owner's number */
	__u32 tried; /* as in struct owner */
};

/*
 * A thread and the mark of its process. The fields from which the mark is computed are
 * compared each time.
 */
struct known_thread {
	__u64 task;
	__u64 start_ns;
	__u64 cred;
	__u32 exec_id;
	__u32 mark; /* combined with start_ns, so that it is no valid mark if two threads write at the same time */
};

struct knowledge {
	struct known_thread thread;
	struct known by[KNOWN];
} __attribute__((aligned(64))); /* a cache line */

struct knowledge knowledge OF_CPU(knowledge);

/* Not set if soft interrupts can be preempted, or owners can change unseen. Then no owner is remembered. */
const volatile bool with_knowledge;

/* How often a socket got another owner or was closed. */
__u64 handovers SEC(".data.shared");

/* To be called after another owner of a socket was written. */
static __always_inline void forget_known(void)
{
	__sync_fetch_and_add(&handovers, 1);
}

/* Where a socket is known, if it is. */
static __always_inline struct known *known_at(struct knowledge *k, const void *sk)
{
	return &k->by[hashable(sk) >> 7 & (KNOWN - 1)];
}

/* Whether a place is that of a socket, of which all that is known is still so. */
static __always_inline bool is_known_as(const struct known *known, const void *sk)
{
	return READ_ONCE(known->sk) == (__u64)sk && known->handovers == READ_ONCE(handovers);
}

/* What is known of a socket, with bottom halves off; NULL if it is not known here. */
static __always_inline struct known *find_known(const void *sk)
{
	struct known *known = known_at(HERE(knowledge), sk);

	return is_known_as(known, sk) ? known : NULL;
}

/*
 * Remembers the owner of a socket, with bottom halves off. since is the value of
 * handovers before the owner was read.
 */
static __always_inline void note_known(const void *sk, const struct owner *owner, __u64 number, __u64 since)
{
	struct known *known;

	if (!with_knowledge || !is_used(number) || owner->subflow)
		return;
	known = known_at(HERE(knowledge), sk);
	known->sk = (__u64)sk;
	known->number = number_to_count(number);
	known->mark = number;
	known->tried = owner->tried;
	known->handovers = since;
}

/* Computes the running process's mark, and remembers it. */
static __noinline __u32 remember_thread(struct knowledge *k)
{
	struct task_struct *task = current_task(), *leader = task->group_leader;
	struct process process = current_process();
	struct known_thread *known = &k->thread;
	__u32 mark = mark_of(&process);

	known->task = (__u64)task;
	known->start_ns = leader->start_boottime;
	known->cred = (__u64)leader->cred;
	known->exec_id = task->self_exec_id;
	known->mark = mark ^ (__u32)leader->start_boottime;
	return mark;
}

/* The running process's mark, by its thread; 0 if this CPU does not remember it. */
static __always_inline __u32 mark_of_thread(const struct known_thread *known, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	__u64 start_ns = leader->start_boottime;

	if (known->task != (__u64)task || known->start_ns != start_ns || known->cred != (__u64)leader->cred ||
	    known->exec_id != (__u32)task->self_exec_id)
		return 0;
	return READ_ONCE(known->mark) ^ (__u32)start_ns;
}

/* Whether the user of a socket is known; its mark is never 0. */
static __always_inline bool knows_user(const struct known *known, const void *sk, __u32 *mark)
{
	if (!is_known_as(known, sk))
		return false;
	*mark = READ_ONCE(known->mark);
	return READ_ONCE(known->sk) == (__u64)sk; /* a softirq may have come in between */
}

/*
 * Whether the known user of a socket is the running process, which this CPU may not remember, or which
 * has no place. Then it must have been found in this round that there is none.
 */
static __noinline bool is_user(const void *sk)
{
	struct knowledge *k = HERE(knowledge);
	struct known *known = known_at(k, sk);
	__u32 user, mark;

	if (!knows_user(known, sk, &user))
		return false;
	mark = mark_of_thread(&k->thread, current_task());
	if (!mark)
		mark = remember_thread(k);
	if (user == mark)
		return true;
	return user == (__u32)number_beyond(mark) && known->number == number_of_account(ACCOUNT_OVERFLOW) &&
	       known->tried == (__u32)current_round();
}

/* Whether it is known that sk belongs to the running process. */
static __always_inline bool is_known_user(const void *sk)
{
	struct knowledge *k = HERE(knowledge);
	__u32 user;

	if (!knows_user(known_at(k, sk), sk, &user))
		return false;
	return user == mark_of_thread(&k->thread, current_task()) || is_user(sk);
}
