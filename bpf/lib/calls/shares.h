/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "tree.h"

/*
 * Who gets what of max_per_second. Of each second
 *
 *   failed calls    have at most four fifths,
 *   slow ones       two fifths, less where failed ones need it, and a tenth at least,
 *   sampled ones    a fifth, less where the others need it, and a tenth at least.
 *
 * What each process wanted in the second before says how much one may have in this: where
 * a share is less than all want together, no process has more than the others may have.
 * Of failed ones the same part is left for a process that wanted nothing yet, so that one
 * alone has half of the share.
 */
const volatile __u64 max_per_second = 0; /* records; 0: no limit */
const volatile __u32 step_of_want = 1;   /* records that an element of wants stands for */

#define REASONS (REASON_SAMPLED + 1)
#define NANOS 1000000000ULL
#define PARTS 1024
#define PARTS_SHIFT 22 /* of a hash of 32 bits */
#define WANTS 128

_Static_assert(REASONS == 4 && REASONS * PARTS == 4096 && 2 * REASONS * WANTS == 1024, "the limits of the indices below");

__u64 rate_limited[REASONS]; /* what was left out */

/*
 * Counts of one second, whose number is in the high half: nobody has to clear them. Two
 * CPUs that begin one at the very same moment may lose one of it, so let one more through.
 */
static __u64 taken[REASONS];             /* REASON_NONE: of all */
static __u64 parts[REASONS * PARTS];     /* by process; two that meet in one have a part together */
static __u64 wants[2 * REASONS * WANTS]; /* how many processes wanted so many, in this second and the one before */

static struct {
	__u32 second;
	__u32 share[REASONS];
	__u32 part[REASONS]; /* of one process */
} window;

static __always_inline __u32 count_in(__u64 count, __u32 second)
{
	return count >> 32 == second ? count : 0;
}

static __always_inline __u32 count_one(__u64 *count, __u32 second)
{
	if (READ_ONCE(*count) >> 32 != second)
		WRITE_ONCE(*count, (__u64)second << 32);
	__sync_fetch_and_add(count, 1);
	return READ_ONCE(*count);
}

static __always_inline __u32 at_least(__u32 least, __s64 n)
{
	return n > least ? n : least;
}

/*
 * Shares out, by what was wanted for a reason in a second: how much one process may have,
 * in the high half, and what all have then. Each has at most the given part, and others
 * are as many processes more, which want all that they can get.
 * A global function, as the next ones: see report_call.
 */
__noinline __u64 share_out(__u32 reason, __u32 second, __u32 share, __u32 most, __u32 others)
{
	__u32 sum = 0, part = 0;

	for (int i = 0; i < WANTS && part < most; i++) {
		__u64 at = ((second & 1) * REASONS + reason) * WANTS + i;
		__u32 more;

		LIMITED(at, 1023);
		more = (count_in(wants[at], second) + others) * step_of_want;
		if (sum + more > share)
			break;
		sum += more;
		part += step_of_want;
	}
	return (__u64)at_least(1, part) << 32 | sum;
}

extern __u64 min_duration_ns, wanted_errors[3];

__noinline int open_window(__u32 second)
{
	__u32 all = max_per_second, tenth = all / 10, failed = all * 4 / 5, kept, slow, sampled;
	__u64 shared = 0;

	if (wanted_errors[0] | wanted_errors[1] | wanted_errors[2])
		shared = share_out(REASON_FAILED, second - 1, failed, failed / 2, 1);
	kept = shared;
	window.part[REASON_FAILED] = shared >> 32;
	window.share[REASON_FAILED] = at_least(1, failed);
	slow = at_least(tenth, (__s64)all - (min_duration_ns ? all / 5 : 0) - kept); /* of 0, no call is left to be sampled */
	window.part[REASON_SLOW] = share_out(REASON_SLOW, second - 1, slow, slow, 0) >> 32;
	window.share[REASON_SLOW] = at_least(1, slow);
	sampled = at_least(tenth, (__s64)all - kept - slow);
	if (sampled > all / 5)
		sampled = all / 5;
	window.part[REASON_SAMPLED] = share_out(REASON_SAMPLED, second - 1, sampled, sampled, 0) >> 32;
	window.share[REASON_SAMPLED] = at_least(1, sampled);
	barrier();
	WRITE_ONCE(window.second, second);
	return 0;
}

/* Counts that a process wants one more, and returns how many it wanted until now. */
static __always_inline __u32 want(__u64 reason, __u32 pid, __u32 second)
{
	__u32 hash = (pid ^ second << 16) * 0x9e3779b1U >> PARTS_SHIFT, step = step_of_want ? step_of_want : 1, part;
	__u64 at = reason * PARTS + hash, i;

	LIMITED(at, 4095);
	part = count_one(&parts[at], second);
	i = (part - 1) / step;
	if (i < WANTS && i * step == part - 1) {
		i += ((second & 1) * REASONS + reason) * WANTS;
		LIMITED(i, 1023);
		count_one(&wants[i], second);
	}
	return part;
}

/* Whether a record of a process is still within what it may have. */
__noinline int is_within_share(__u32 reason, __u32 pid)
{
	__u32 second = bpf_ktime_get_ns() / NANOS;
	__u64 at = reason;

	if (!max_per_second || !reason || reason >= REASONS)
		return true;
	if (second > READ_ONCE(window.second))
		open_window(second);
	LIMITED(at, 3);
	second = READ_ONCE(window.second);
	if (want(at, pid, second) <= window.part[at] &&
	    count_one(&taken[at], second) <= window.share[at] &&
	    count_one(&taken[REASON_NONE], second) <= max_per_second)
		return true;
	__sync_fetch_and_add(&rate_limited[at], 1);
	return false;
}
