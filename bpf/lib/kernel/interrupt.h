/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "current.h"
#include "registers.h"

/*
 * A soft interrupt interrupts any thread, and what it does is not that thread's work. x86 runs it
 * on a stack of its own if the thread was in the kernel, and arm64 counts it in the thread. A
 * kernel with PREEMPT_RT runs it on the thread's own stack on either architecture, and has a
 * separate count for it because it may be preempted. Its hard interrupts are as on other kernels.
 */
#define THREAD_SIZE 16384       /* size of a thread's kernel stack */
#define SERVING_SOFTIRQ 0x100   /* in both counts; local_bh_disable adds the next higher bit */
#define PF_WQ_WORKER 0x00000020
#define PF_NO_SETAFFINITY 0x04000000

/*
 * The place on the running thread's stack where we are, below all that is under way. It is not
 * valid at the entry of a probe, whose context may be elsewhere. A probe uses the stack pointer.
 */
static __always_inline __u32 position_of(void *ctx)
{
	__u64 position;

	asm volatile("%[to] = %[from]" : [to] "=w"(position) : [from] "w"(ctx));
	return position;
}

static __always_inline bool is_interrupt(__u32 position)
{
	if (bpf_core_field_exists(struct task_struct, softirq_disable_cnt) &&
	    THIS_TASK(softirq_disable_cnt) & SERVING_SOFTIRQ)
		return true;
#if defined(__TARGET_ARCH_x86)
	return position - (__u32)(__u64)THIS_TASK(stack) >= THREAD_SIZE;
#elif defined(__TARGET_ARCH_arm64)
	asm volatile("" : : "r"(position)); /* or a function that takes it would get an undefined value */
	return THIS_TASK(thread_info.preempt.count) & SERVING_SOFTIRQ;
#endif
}

/*
 * Whether the running thread is in a system call. An interrupt of a thread in user mode is told
 * from one by the registers: since 5.12 x86 runs soft interrupts on the thread's own stack then,
 * which is empty.
 */
static __always_inline bool is_system_call(__u32 position)
{
	if (is_interrupt(position))
		return false;
#if defined(__TARGET_ARCH_x86)
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs)) { /* since 5.15 */
		struct pt_regs *regs = (void *)bpf_task_pt_regs(current_task());

		return (long)BPF_CORE_READ(regs, orig_ax) >= 0;
	} else {
		struct pt_regs *regs = (void *)THIS_TASK(stack) + THREAD_SIZE - bpf_core_type_size(struct pt_regs);

		return (long)BPF_CORE_READ(regs, orig_ax) >= 0;
	}
#endif
	return true;
}

/*
 * Whether the thread belongs to one CPU. One of these, ksoftirqd, serves soft interrupts on its own
 * stack.
 */
static __always_inline bool is_thread_of_cpu(void)
{
	return (THIS_TASK(flags) & (PF_KTHREAD | PF_NO_SETAFFINITY | PF_WQ_WORKER)) ==
	       (PF_KTHREAD | PF_NO_SETAFFINITY);
}
