/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "types.h"

/* Whether the kernel has a helper: a constant there, and not a variable to be read each time. */
#define has_helper(id) bpf_core_enum_value_exists(enum bpf_func_id, id)

/*
 * A field of the running task, without a helper call for each: where the verifier
 * knows the task's type, from Linux 5.11 on. Before, user space makes current_task
 * another helper.
 */
#define with_current_task has_helper(BPF_FUNC_get_current_task_btf)

#define THIS_TASK(field)                                                            \
	({                                                                          \
		struct task_struct *this = current_task();                          \
		with_current_task ? this->field : BPF_CORE_READ(this, field);       \
	})
