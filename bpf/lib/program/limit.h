/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

#define NANOS 1000000000ULL

const volatile __u64 max_per_second = 0; /* records; 0: no limit */

static __u64 window_second, window_taken;

/* Whether all records of this second have been used up. */
static __always_inline bool is_spent(void)
{
	return max_per_second && READ_ONCE(window_taken) >= max_per_second && bpf_ktime_get_ns() / NANOS == READ_ONCE(window_second);
}

/*
 * Whether one more record may be made in this second. Two CPUs that begin a second at the very same
 * moment may let one more through.
 */
static __always_inline bool is_within_limit(void)
{
	__u64 second;

	if (!max_per_second)
		return true;
	second = bpf_ktime_get_ns() / NANOS;
	if (second > window_second) {
		window_second = second;
		window_taken = 0;
	}
	__sync_fetch_and_add(&window_taken, 1);
	return READ_ONCE(window_taken) <= max_per_second;
}
