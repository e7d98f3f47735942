/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "thread_context.h"

/*
 * Processes that user space is to examine. A process is put here when it first has to do with a
 * socket, so one that runs and ends without a socket is never examined. Each record wakes user
 * space, since there are few.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, __u32);
} questions SEC(".maps");

/* A new entry of a process. It is not on the stack, of which the callers need most. */
const struct observed not_observed = {};

/*
 * Asks user space about a process, once. known is what is known of it, or NULL. Any other entry of
 * the same pid in the table is about an earlier process.
 */
static __always_inline void ask(struct task_struct *task, struct observed *known)
{
	__u32 pid = BPF_CORE_READ(task, tgid);

	if (!known) {
		if (!bpf_map_update_elem(&observed, &pid, &not_observed, BPF_ANY))
			known = bpf_map_lookup_elem(&observed, &pid);
		if (known) {
			known->exec_id = BPF_CORE_READ(task, self_exec_id);
			known->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
		}
	}
	if (!known) {
		count_context(REFUSED_TABLE_FULL);
		return;
	}
	known->ask = 0;
	if (bpf_ringbuf_output(&questions, &pid, sizeof(pid), 0))
		known->ask = 1; /* ask again the next time */
}

/*
 * Asks about the running process if it is not known. This is a global function, which is verified
 * once.
 */
__noinline int meet_process(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (!with_http && !with_otel_thread && !with_go_labels && !with_obi && !with_socket)
		return 0;
	if (THIS_TASK(flags) & (PF_KTHREAD | PF_IO_WORKER) || observed_process())
		return 0;
	ask(task, NULL);
	return 0;
}
