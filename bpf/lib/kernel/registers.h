/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "types.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

#if defined(__TARGET_ARCH_x86)

struct pt_regs {
	unsigned long bp;
	unsigned long r9;
	unsigned long r8;
	unsigned long bx;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long sp;
};

#elif defined(__TARGET_ARCH_arm64)

struct pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 orig_x0;
	int syscallno;
};

#endif

#pragma clang attribute pop

/* The first argument of a function, for a kprobe at its entry. */
static __always_inline void *first_argument(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	return (void *)ctx->di;
#elif defined(__TARGET_ARCH_arm64)
	return (void *)ctx->regs[0];
#endif
}

/* Its second argument, and below its fourth and third. */
static __always_inline void *second_argument(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	return (void *)ctx->si;
#elif defined(__TARGET_ARCH_arm64)
	return (void *)ctx->regs[1];
#endif
}

static __always_inline long fourth_argument(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	return ctx->cx;
#elif defined(__TARGET_ARCH_arm64)
	return ctx->regs[3];
#endif
}

/* What a function returns, for a kprobe at its exit. */
static __always_inline long returned_value(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	return ctx->ax;
#elif defined(__TARGET_ARCH_arm64)
	return ctx->regs[0];
#endif
}

static __always_inline void *third_argument(struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	return (void *)ctx->dx;
#elif defined(__TARGET_ARCH_arm64)
	return (void *)ctx->regs[2];
#endif
}
