/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "types.h"

/*
 * Whether the kernel has a helper. It is known when a program is loaded, so no variable is read
 * each time.
 */
#define has_helper(id) bpf_core_enum_value_exists(enum bpf_func_id, id)

/*
 * A field of the running task. Since Linux 5.11 the verifier knows the task's type, and the field
 * is read without a helper call. On older kernels user space replaces the helper of current_task.
 */
#define with_current_task has_helper(BPF_FUNC_get_current_task_btf)

#define THIS_TASK(field)                                                            \
	({                                                                          \
		struct task_struct *this = current_task();                          \
		with_current_task ? this->field : BPF_CORE_READ(this, field);       \
	})

/* When the running process was started. */
static __always_inline __u64 this_start(void)
{
	if (with_current_task)
		return current_task()->group_leader->start_boottime;
	return BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), group_leader, start_boottime);
}
