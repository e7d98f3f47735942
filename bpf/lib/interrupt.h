/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "kernel.h"

/*
 * A soft interrupt runs on top of whatever thread it came upon, and what it calls
 * is not that thread's. Of the preemption count only this bit says so:
 * local_bh_disable, as in lock_sock, adds the next one, and a kprobe sets those of
 * hard interrupts.
 */
#define SERVING_SOFTIRQ 0x100

#if defined(__TARGET_ARCH_x86)

/*
 * The count is a variable of the CPU: __preempt_count, or a field of pcpu_hot (6.2
 * to 6.14). User space puts the variable's BTF id in place of the mark, or where
 * BTF has no variables sets the addresses. Go: kernel.SetPreemptCount.
 */
#define MARK_PREEMPT_COUNT "0x7a22"

const volatile __u32 preempt_count_offset;
const volatile __u64 preempt_count_address; /* in the per-CPU area; 0: by the mark */
const volatile __u64 per_cpu_offsets;       /* address of __per_cpu_offset */

static __always_inline __u32 preempt_count(void)
{
	__u64 base = 0;
	__u32 count = 0;
	void *variable;

	if (preempt_count_address) {
		bpf_probe_read_kernel(&base, sizeof(base), (void *)(per_cpu_offsets + 8 * bpf_get_smp_processor_id()));
		bpf_probe_read_kernel(&count, sizeof(count), (void *)(base + preempt_count_address));
		return count;
	}
	asm volatile("%0 = " MARK_PREEMPT_COUNT " ll" : "=r"(variable));
	variable = bpf_this_cpu_ptr(variable);
	return *(__u32 *)(variable + preempt_count_offset);
}

#elif defined(__TARGET_ARCH_arm64)

static __always_inline __u32 preempt_count(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return BPF_CORE_READ(task, thread_info.preempt.count);
}

#endif

static __always_inline bool in_softirq(void)
{
	return preempt_count() & SERVING_SOFTIRQ;
}
