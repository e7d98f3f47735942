/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../syscall/compat.h"

/*
 * Finds out which system call returns, from the registers with which the thread entered the kernel.
 * 32-bit calls have numbers of their own, and a 64-bit process may make one too (int $0x80). So the
 * kernel's mark on the call decides, and not the kind of the process.
 */

#if defined(__TARGET_ARCH_x86)

#define X32_SYSCALL_BIT 0x40000000UL /* x32 shares the numbers of these two calls */
#define SYS_ACCEPT 43
#define SYS_ACCEPT4 288
#define SYS32_SOCKETCALL 102
#define SYS32_ACCEPT4 364
#define SOCKETCALL_ACCEPT 5
#define SOCKETCALL_ACCEPT4 18

static __always_inline bool is_accept(struct pt_regs *regs)
{
	unsigned long number = regs->orig_ax & ~X32_SYSCALL_BIT;

	switch (number) {
	case SYS_ACCEPT:
	case SYS_ACCEPT4:
		return !is_32bit_call();
	case SYS32_ACCEPT4:
		return is_32bit_call();
	case SYS32_SOCKETCALL:
		return is_32bit_call() &&
		       (regs->bx == SOCKETCALL_ACCEPT || regs->bx == SOCKETCALL_ACCEPT4);
	}
	return false;
}

/* The listener's fd. A socketcall has it in user memory, which we do not read. */
static __always_inline int accept_argument(struct pt_regs *regs)
{
	if (!is_32bit_call())
		return regs->di;
	return regs->orig_ax == SYS32_ACCEPT4 ? (int)regs->bx : NO_FD;
}

#elif defined(__TARGET_ARCH_arm64)

#define SYS_ACCEPT 202
#define SYS_ACCEPT4 242
#define SYS32_ACCEPT 285
#define SYS32_ACCEPT4 366

static __always_inline bool is_accept(struct pt_regs *regs)
{
	switch (regs->syscallno) {
	case SYS_ACCEPT:
	case SYS_ACCEPT4:
		return !is_32bit_call();
	case SYS32_ACCEPT:
	case SYS32_ACCEPT4:
		return is_32bit_call();
	}
	return false;
}

static __always_inline int accept_argument(struct pt_regs *regs)
{
	return regs->orig_x0; /* x0 holds the result by now */
}

#endif
