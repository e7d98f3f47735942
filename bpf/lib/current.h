/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "kernel.h"

/*
 * A field of the running task, without a helper call for each: where the verifier
 * knows the task's type, from Linux 5.11 on. Before, user space makes current_task
 * another helper.
 */
const volatile bool with_current_task = 1;

#define THIS_TASK(field)                                                            \
	({                                                                          \
		struct task_struct *this = current_task();                          \
		with_current_task ? this->field : BPF_CORE_READ(this, field);       \
	})
