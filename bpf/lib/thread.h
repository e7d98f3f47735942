/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "current.h"
#include "tree.h"

/*
 * Where a thread's tree is. Before Linux 5.11 there is no task storage (nor what
 * with_current_task says): then user space makes trees a hash of no use, and threads have their tree in thread_trees.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tree);
} trees SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* user space sets it where it is used */
	__type(key, __u32);     /* thread id */
	__type(value, struct tree);
} thread_trees SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tree);
} blank_tree SEC(".maps");

/* The tree of a thread that a tracepoint hands over, or NULL. */
static __always_inline struct tree *tree_of(struct task_struct *task)
{
	__u32 thread;

	if (with_current_task)
		return bpf_task_storage_get(&trees, task, 0, 0);
	thread = BPF_CORE_READ(task, pid);
	return bpf_map_lookup_elem(&thread_trees, &thread);
}

/* The running thread's, or NULL. */
static __always_inline struct tree *this_tree(void)
{
	__u32 thread;

	if (with_current_task)
		return bpf_task_storage_get(&trees, current_task(), 0, 0);
	thread = bpf_get_current_pid_tgid();
	return bpf_map_lookup_elem(&thread_trees, &thread);
}

/* The same, made if there is none; NULL when there is no room. */
static __always_inline struct tree *make_tree(void)
{
	__u32 thread, zero = 0;
	struct tree *blank;

	if (with_current_task)
		return bpf_task_storage_get(&trees, current_task(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	thread = bpf_get_current_pid_tgid();
	blank = bpf_map_lookup_elem(&blank_tree, &zero);
	if (!blank)
		return NULL;
	bpf_map_update_elem(&thread_trees, &thread, blank, BPF_NOEXIST);
	return bpf_map_lookup_elem(&thread_trees, &thread);
}
