/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "kernel.h"

/*
 * A program that is attached may still never run. So at first each program only
 * notes that it does, in a variable of its own, fired_NAME; once user space has
 * seen to it that all of them ran, it arms them. Go: kernel.Programs.
 */
bool armed;

static __always_inline bool is_armed(bool *fired)
{
	if (!armed)
		*fired = true;
	return armed;
}
