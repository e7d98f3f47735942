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

static __always_inline bool is_enabled(bool *fired)
{
	__u8 now = enabled;

	if (now == ENABLED)
		return true;
	if (!*fired)
		*fired = true;
	return now != DISABLED;
}
