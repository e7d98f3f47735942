/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "kernel.h"

/*
 * A field of the running task, without a helper call for each: where the verifier
 * knows the task's type, from Linux 5.11 on.
 */
const volatile bool with_current_task = 1;

#define THIS_TASK(field)                                             \
	(with_current_task ? bpf_get_current_task_btf()->field       \
			   : BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), field))
