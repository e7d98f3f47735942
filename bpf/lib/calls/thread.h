/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/current.h"
#include "tree.h"

/*
 * What is at hand of a thread: it is found by the thread's id, without a hash and a lock.
 * A place is one thread's until that has ended; another one whose id leads to the same
 * has none, and does with its tree alone.
 */
enum __attribute__((packed)) progress {
	CALL_NONE,     /* no call is under way */
	CALL_PLAIN,    /* one is, of which nothing is known but what is here */
	CALL_ROOT,     /* one with a tree, in which the functions inside are not */
	CALL_FOLLOWED, /* one with a tree of all functions */
};

struct thread {
	__u64 task;     /* address; 0: the place is free */
	__u64 start_ns; /* of a call that is plain, as the next three and deed */
	__u32 position;
	__u16 function;
	__s16 entry;
	__u32 random; /* state of the thread's own generator */
	enum progress progress;
	__u8 nested;  /* runs of function inside of itself */
	__u8 touched; /* the call had to do with a socket */
	__u8 deed;    /* see deed_of */
	__u32 wanted; /* the version of the filters that let the thread's calls through, whichever they are */
	__u32 pad;
	struct conversation conversation[CONVERSATIONS];
};

#define THREADS 16384

static struct thread threads[THREADS];

static __always_inline struct thread *place_of(__u32 id)
{
	return &threads[id & (THREADS - 1)];
}

static __always_inline struct thread *if_of(struct thread *th, const void *task)
{
	if (th->task != (__u64)task)
		th = NULL;
	CHECKED(th); /* or the verifier would have to compare as the compiler may */
	return th;
}

/* What is at hand of a thread that a tracepoint hands over; NULL if it has no place. */
static __always_inline struct thread *thread_of(struct task_struct *task)
{
	return if_of(place_of(task->pid), task);
}

/*
 * Says how far the running thread's call is. A program can be preempted, and what then
 * sees the thread leave the CPU is to find the rest as it was before or as it is after.
 */
static __always_inline void proceed(struct thread *th, enum progress progress)
{
	barrier();
	WRITE_ONCE(th->progress, progress);
	barrier();
}

/* The same as thread_of of the running thread. */
static __always_inline struct thread *this_thread(void)
{
	struct task_struct *task = current_task();

	return if_of(place_of(with_current_task ? task->pid : (__u32)bpf_get_current_pid_tgid()), task);
}

/*
 * Gives the running thread, whose tree is t, its place if nobody has it. It is used from the thread's next
 * call on: two that do this at once do not both find it theirs then.
 */
static __always_inline void take_place(const struct tree *t)
{
	struct thread *th = place_of(bpf_get_current_pid_tgid());

	if (th->task)
		return;
	th->progress = CALL_NONE;
	th->wanted = 0;
	th->random = bpf_get_prandom_u32() | 1;
	__builtin_memcpy(th->conversation, t->conversation, sizeof(th->conversation));
	WRITE_ONCE(th->task, (__u64)current_task());
}

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
