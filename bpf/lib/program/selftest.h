/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * A program that is attached may still never run. So at first each program only
 * notes that it does, in a variable of its own, fired_NAME; once user space has
 * seen to it that all of them ran, it enables them. Where it could not make one run,
 * they go on to note it: whatever runs it later proves it. Go: kernel.Object.
 */
enum enabled {
	DISABLED,
	ENABLED,
	ENABLED_UNPROVEN, /* some of them have not run yet */
};

__u8 enabled; /* enum enabled */

static __always_inline bool is_enabled(bool *fired)
{
	__u8 now = enabled;

	if (now == ENABLED)
		return true;
	if (!*fired)
		*fired = true;
	return now != DISABLED;
}
