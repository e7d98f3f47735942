/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * A program that is attached may still never run. So each program first only records that it runs,
 * in a variable of its own named fired_NAME. Once user space has made all of them run it enables
 * them. If it could not make one run, they record this even when enabled: whatever runs it later
 * proves the hook. Go: kernel.Object.
 */
enum enabled {
	DISABLED,
	ENABLED,
	ENABLED_UNPROVEN, /* some of them have not run yet */
};

__u8 enabled; /* enum enabled */

static __always_inline bool note_fired(bool *fired, __u8 now)
{
	if (!*fired)
		*fired = true;
	return now != DISABLED;
}

/*
 * A macro: the compiler keeps the result of a function in a register and tests it again, which takes
 * four more instructions in each program.
 */
#define is_enabled(fired)                                          \
	({                                                         \
		__u8 now = enabled;                                \
		now == ENABLED || note_fired(fired, now);          \
	})
