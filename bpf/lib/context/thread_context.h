/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/current.h"
#include "../syscall/entry.h"
#include "go_labels.h"
#include "obi.h"
#include "otel_thread.h"

/*
 * The entry of the running process, or NULL. An entry of its pid may be about an earlier process.
 */
static __always_inline struct observed *observed_process(void)
{
	__u32 pid = THIS_TASK(tgid);
	struct observed *process = bpf_map_lookup_elem(&observed, &pid);

	if (!process || process->exec_id != (__u32)THIS_TASK(self_exec_id))
		return NULL;
	return process->start_ns == this_start() ? process : NULL;
}

static __always_inline __u64 thread_pointer(void)
{
#if defined(__TARGET_ARCH_x86)
	return THIS_TASK(thread.fsbase);
#elif defined(__TARGET_ARCH_arm64)
	return THIS_TASK(thread.uw.tp_value);
#endif
}

/* The goroutine that the thread was in when it entered the kernel. */
static __always_inline __u64 goroutine(const struct observed *process, __u64 thread_pointer)
{
#if defined(__TARGET_ARCH_x86)
	__u64 g = 0;

	return read_user_word(&g, thread_pointer + process->g_tls) ? g : 0;
#elif defined(__TARGET_ARCH_arm64)
	return REGISTER(user_registers(), regs[28]);
#endif
}

/* a context that a process publishes is only related, and not taken for the cause */
const volatile bool outbound_is_link;

/* The context that the process publishes for its running thread. */
static __always_inline bool published_context(struct context *c, const struct observed *process)
{
	__u64 pointer = thread_pointer();

	if (with_otel_thread && process->flags & OBSERVED_THREAD_SLOT && otel_thread_context(c, process, pointer)) {
		c->link = outbound_is_link;
		return true;
	}
	if (with_go_labels && process->flags & OBSERVED_GO && go_labels_context(c, process, goroutine(process, pointer))) {
		c->link = outbound_is_link;
		return true;
	}
	return false;
}

#define PATIENCE 512 /* a process that could publish a context, and had none in so many looks, is silent */

/* Whether a process publishes contexts, or may still begin to. */
static __always_inline bool may_publish(const struct observed *process)
{
	return process->flags & (OBSERVED_THREAD_SLOT | OBSERVED_GO) &&
	       (process->publishes || process->silences < PATIENCE);
}

/*
 * The context of the running thread, from the first source that has one. process is NULL if it is
 * not known or is silent.
 */
static __always_inline bool thread_context(struct context *c, struct observed *process)
{
	if (THIS_TASK(flags) & (PF_KTHREAD | PF_IO_WORKER))
		return false;
	if (process && process->flags & OBSERVED_WANTED) {
		if (published_context(c, process)) {
			process->publishes = 1;
			return true;
		}
		process->silences++;
	}
	return with_obi && obi_context(c, process);
}
