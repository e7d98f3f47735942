/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "thread.h"

/*
 * How long a plain call took is known from a second reading of the clock, which takes as much as all else that is done at its
 * end. It is left out if the thread makes one call after the other, and the kernel's clock has not ticked during this one.
 * So a call that is made seldom is always measured, and of calls in a loop each that takes longer than a tick. What can be
 * missed is a call in a loop of short ones that is busy for min_duration, and for less than a tick.
 *
 * If a thread has begun a call whose end was not measured, and makes no other one for min_duration while it keeps the CPU, that
 * call may have taken so long. unmeasured counts these.
 */
__s64 plain_ns; /* a plain call that takes no less has to be looked at more closely when it ends: min_duration_ns, or 0 */

__u64 unmeasured; /* plain calls */

#define LOOP_PART 4   /* a call begins soon if it does within this part of min_duration after the one before */
#define LOOP_CALLS 64 /* so many in a row are a loop */

/* If the end of a thread's last call was not measured, counts it if it may have taken too long by now. */
static __always_inline void bound_last_at(struct thread *th, __u64 now)
{
	if (!th->tick)
		return;
	th->tick = 0;
	if ((__s64)(now - th->start_ns) >= plain_ns)
		__sync_fetch_and_add(&unmeasured, 1);
}

/* A thread that is in no call leaves the CPU, or has ended. */
static __always_inline void bound_last(struct thread *th)
{
	if (th->tick)
		bound_last_at(th, bpf_ktime_get_boot_ns());
}

/*
 * A call of the running thread begins that is not yet one of a loop, or no longer. This is a global function, which is
 * verified once.
 */
__noinline int follow_pace(__u64 now)
{
	struct thread *th = this_thread();

	if (!th)
		return 0;
	if (now - th->start_ns >= (__u64)plain_ns / LOOP_PART) {
		bound_last_at(th, now);
		leave_loop(th);
	} else if (++th->soon == LOOP_CALLS) {
		th->loop_ns = (__u64)plain_ns / LOOP_PART;
	}
	th->tick = 0;
	return 0;
}

/* A call of a thread begins. */
static __always_inline void begin_in_loop(struct thread *th, __u64 now)
{
	if (now - th->start_ns < th->loop_ns)
		th->tick = bpf_jiffies64();
	else
		follow_pace(now);
	th->start_ns = now;
}

/* Whether the end of a plain call is not to be measured. */
static __always_inline bool is_left_unmeasured(const struct thread *th)
{
	return th->tick == bpf_jiffies64();
}
