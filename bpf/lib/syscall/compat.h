/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/current.h"
#include "../kernel/registers.h"

#define NO_FD (-1)
#define TS_COMPAT 0x0002 /* x86, thread_info.status: in a 32-bit system call */
#define TIF_32BIT 22     /* arm64, thread_info.flags: a 32-bit process */

/* Whether the running thread is in a 32-bit system call. These calls have other numbers. */
static __always_inline bool is_32bit_call(void)
{
#if defined(__TARGET_ARCH_x86)
	return THIS_TASK(thread_info.status) & TS_COMPAT;
#elif defined(__TARGET_ARCH_arm64)
	return THIS_TASK(thread_info.flags) >> TIF_32BIT & 1;
#endif
}
