/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "compat.h"
#include "../kernel/interrupt.h"
#include "operation.h"

#define ENOSYS 38

#define with_task_registers has_helper(BPF_FUNC_task_pt_regs) /* since 5.15 */

/* The registers with which the running thread entered the kernel. */
static __always_inline struct pt_regs *user_registers(void)
{
	if (with_task_registers)
		return (struct pt_regs *)bpf_task_pt_regs(current_task());
	return THIS_TASK(stack) + THREAD_SIZE - bpf_core_type_size(struct pt_regs);
}

extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak; /* since 6.2 */

/*
 * The same if it is known that they are at an address, which no helper has to be called for then. They are there for as
 * long as the thread lives.
 */
static __always_inline struct pt_regs *registers_at(__u64 address)
{
	if (bpf_rdonly_cast)
		return bpf_rdonly_cast((void *)address, bpf_core_type_id_kernel(struct pt_regs));
	return user_registers();
}

#define REGISTER(regs, field) (with_task_registers ? (regs)->field : BPF_CORE_READ(regs, field))

/* The number with which it entered. */
static __always_inline long entry_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return REGISTER(regs, orig_ax);
#elif defined(__TARGET_ARCH_arm64)
	return REGISTER(regs, syscallno);
#endif
}

/* The number of the system call with which it entered; negative outside of system calls. */
static __always_inline long syscall_of(struct pt_regs *regs)
{
	long number = entry_of(regs);

	return number < 0 ? number : number & ~X32_BIT;
}

/* Whether that call has returned, and the thread now does work that was deferred until then. */
static __always_inline bool is_behind_call(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return (long)REGISTER(regs, ax) != -ENOSYS; /* the value until there is a result */
#elif defined(__TARGET_ARCH_arm64)
	return false; /* by then the number of the call is forgotten */
#endif
}

static __always_inline int first_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return REGISTER(regs, di);
#elif defined(__TARGET_ARCH_arm64)
	return REGISTER(regs, orig_x0);
#endif
}

static __always_inline __u64 second_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return REGISTER(regs, si);
#elif defined(__TARGET_ARCH_arm64)
	return REGISTER(regs, regs[1]);
#endif
}

static __always_inline __u64 third_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return REGISTER(regs, dx);
#elif defined(__TARGET_ARCH_arm64)
	return REGISTER(regs, regs[2]);
#endif
}

static __always_inline __u64 fifth_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return REGISTER(regs, r8);
#elif defined(__TARGET_ARCH_arm64)
	return REGISTER(regs, regs[4]);
#endif
}

static __always_inline __u64 sixth_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return REGISTER(regs, r9);
#elif defined(__TARGET_ARCH_arm64)
	return REGISTER(regs, regs[5]);
#endif
}
