/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "tree.h"

/*
 * How max_per_second is divided. Of the records of each second
 *
 *   failed calls    get at most four fifths,
 *   slow calls      get two fifths, less if failed ones need it, and at least a tenth,
 *   sampled calls   get a fifth, less if the others need it, and at least a tenth.
 *
 * What each process wanted in the previous second decides how much one process may have in
 * this one. Where all processes together want more than a share, each gets at most as much
 * as the others can have too. Failed calls also keep such a part free for a process that
 * wanted nothing before, so a process that is alone gets half of the share.
 */
const volatile __u64 max_per_second = 0; /* records; 0: no limit */
const volatile __u32 step_of_want = 1;   /* how many records one element of wants stands for */

#define REASONS (REASON_SAMPLED + 1)
#define NANOS 1000000000ULL
#define PARTS 1024
#define PARTS_SHIFT 22 /* of a hash of 32 bits */
#define WANTS 128

_Static_assert(REASONS == 4 && REASONS * PARTS == 4096 && WANTS == 128, "the limits of the indices below");

__u64 rate_limited[REASONS]; /* records that were left out, by reason */

/*
 * Counts of one second. The high half of each is the number of that second, so old counts need not
 * be cleared. Two CPUs that begin a second at the very same moment may lose a count, and so let one
 * more record through.
 */
static __u64 taken[REASONS];             /* at REASON_NONE: for all reasons together */
static __u64 parts[REASONS * PARTS];     /* by process; processes with the same hash have one part together */
/* how many processes wanted how many records, in this second and the one before */
static __u64 wants[2 * REASONS * WANTS];

static struct {
	__u32 second;
	__u32 share[REASONS];
	__u32 part[REASONS]; /* of one process */
} window;

/* It has no branch: a loop calls this, and the verifier would follow both ways in each iteration. */
static __always_inline __u32 count_in(__u64 count, __u32 second)
{
	__u64 differ = count >> 32 ^ second;

	CHECKED(differ);
	return count & -((differ - 1) >> 63);
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
 * Divides a share by what processes wanted for a reason in a second. The high half of the result is
 * how much one process may have, and the low half is what all get together then. One process gets
 * at most the part most. others is a number of further processes, which are assumed to want all
 * that they can get. This is a global function, as are the next ones: see report_call.
 */
__noinline __u64 share_out(__u32 reason, __u32 second, __u32 share, __u32 most, __u32 others)
{
	__u64 first = ((second & 1) * REASONS + reason) * WANTS;
	__u32 sum = 0, part = 0;

	LIMITED(first, 896);
	for (int i = 0; i < WANTS && part < most; i++) {
		__u32 more = (count_in(wants[first + i], second) + others) * step_of_want;

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
	/* If the least duration is 0 every call is slow, and none is left to be sampled. */
	slow = at_least(tenth, (__s64)all - (min_duration_ns ? all / 5 : 0) - kept);
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

/*
 * Counts that a process wants one more record, and returns how many it has wanted in this second.
 */
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

/* Whether a process may have one more record. */
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
