/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/current.h"
#include "../syscall/entry.h"
#include "tree.h"

/*
 * What is kept for a thread where it can be found by the thread's id alone, without a hash and
 * without a lock. A place belongs to one thread until that has ended. Another thread whose id leads
 * to the same place has none, and uses its tree alone.
 */
enum __attribute__((packed)) progress {
	CALL_NONE,     /* no call is under way */
	CALL_PLAIN,    /* one is, and all that is known of it is in struct thread */
	CALL_ROOT,     /* one is, with a tree that does not contain the functions inside */
	CALL_FOLLOWED, /* one is, with a tree of all functions */
};

struct thread {
	__u64 task;     /* address; 0: the place is free */
	__u64 sampled_out; /* see count_sampled_out */
	__u64 registers; /* address of those with which the thread enters the kernel */
	__u64 start_ns; /* of a plain call, as are the next fields up to how */
	__u32 position;
	__u16 function; /* with the next two fields in one word: see state_of_call */
	enum progress progress;
	__u8 nested; /* how often function was entered again while it runs */
	__u16 entry;  /* the number with which the thread entered the kernel */
	__u8 touched; /* the call had to do with a socket */
	__u8 how;     /* see operation_of; 0: the number does not tell it */
	__u32 random; /* state of the thread's own generator */
	__u32 wanted; /* the version of the filters that let all calls of the thread through */
	__u32 soon;    /* how many calls in a row began soon after the one before: see follow_pace */
	__u64 loop_ns; /* a call that begins after less than this time is one of a loop; 0: none is */
	__u64 tick;    /* the kernel's count of ticks when a call in a loop began; 0: its end is measured */
	__u32 told;    /* low half of when the call began whose error is that of a wait: see note_told */
	__u32 more_pad;
	struct conversation conversation[CONVERSATIONS];
};

#define THREADS 16384

struct thread threads[THREADS];

/*
 * Counts a plain call that has ended without a record, for all threads that have had the place. They are
 * sampled out as those in STAT_SAMPLED_OUT are. Only the thread itself adds to this, so that no lock
 * is needed. Go: Calls.sampledOut.
 */
static __always_inline void count_sampled_out(struct thread *th)
{
	th->sampled_out++;
}

static __always_inline struct thread *place_of(__u32 id)
{
	return &threads[id & (THREADS - 1)];
}

static __always_inline struct thread *if_of(struct thread *th, const void *task)
{
	if (th->task != (__u64)task)
		th = NULL;
	CHECKED(th); /* or the compiler may compare in a way that the verifier cannot follow */
	return th;
}

typedef __u32 __attribute__((may_alias)) call_state;
typedef __u16 __attribute__((may_alias)) call_progress;

/* Three fields of a thread as one word. */
static __always_inline call_state *state_of_call(struct thread *th)
{
	return (call_state *)&th->function;
}

/* The last two of them, of which nested is the high byte. */
static __always_inline call_progress *progress_of_call(struct thread *th)
{
	return (call_progress *)&th->progress;
}

/* What the state is during a plain call of a function that was not entered again. Go: Function.mark. */
static __always_inline __u32 plain_of(__u16 function)
{
	return function | CALL_PLAIN << 16;
}

/* The place of a thread that a tracepoint passes; NULL if it has none. */
static __always_inline struct thread *thread_of(struct task_struct *task)
{
	return if_of(place_of(task->pid), task);
}

/*
 * Records how far the running thread's call is. A program can be preempted, and a program that then
 * sees the thread leave the CPU must find the other fields either as they were before or as they
 * are after.
 */
static __always_inline void proceed(struct thread *th, enum progress progress)
{
	barrier();
	WRITE_ONCE(th->progress, progress);
	barrier();
}

/* The thread's next call is not one of a loop. */
static __always_inline void leave_loop(struct thread *th)
{
	th->soon = th->loop_ns = 0;
}

/* The place to which the id of the running thread leads. */
static __always_inline struct thread *place_here(void)
{
	return place_of(with_current_task ? current_task()->pid : (__u32)bpf_get_current_pid_tgid());
}

/* The place of the running thread; NULL if it has none. */
static __always_inline struct thread *this_thread(void)
{
	return if_of(place_here(), current_task());
}

/*
 * Gives the running thread, whose tree is t, its place if that is free. The place is used from the
 * thread's next call on, so that of two threads that take it at the same time only one uses it.
 */
static __always_inline void give_place(const struct tree *t)
{
	__u32 id = bpf_get_current_pid_tgid();
	struct thread *th = place_of(id);

	if (th->task)
		return;
	th->registers = (__u64)user_registers();
	th->progress = CALL_NONE;
	th->wanted = 0;
	th->tick = 0;
	leave_loop(th);
	th->random = bpf_get_prandom_u32();
	__builtin_memcpy(th->conversation, t->conversation, sizeof(th->conversation));
	WRITE_ONCE(th->task, (__u64)current_task());
}

/*
 * The tree of each thread. Before Linux 5.11 there is no task storage, and with_current_task is
 * false. User space then replaces trees by a hash that is not used, and the trees are in
 * thread_trees.
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

/*
 * Whether a tree that was found by a thread's id is the thread's. The kernel may give the id to
 * another thread, which uses the tree then, before it tells that the first one is gone.
 */
static __always_inline bool is_tree_of(const struct tree *t, const void *task)
{
	return with_current_task || t->task == (__u32)(__u64)task;
}

/* A call of the running thread begins in a tree, which may have been that of another thread. */
static __always_inline void claim_tree(struct tree *t)
{
	void *task;

	if (with_current_task)
		return;
	task = (void *)bpf_get_current_task();
	if (is_tree_of(t, task))
		return;
	t->task = (__u64)task;
	__builtin_memset(t->conversation, 0, sizeof(t->conversation));
}

/* The tree of a thread that a tracepoint passes, or NULL. */
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

/* The same, but the tree is made if there is none; NULL if there is no room. */
static __always_inline struct tree *make_tree(void)
{
	__u32 thread, zero = 0;
	struct tree *blank, *t;

	if (with_current_task)
		return bpf_task_storage_get(&trees, current_task(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	thread = bpf_get_current_pid_tgid();
	blank = bpf_map_lookup_elem(&blank_tree, &zero);
	if (!blank)
		return NULL;
	bpf_map_update_elem(&thread_trees, &thread, blank, BPF_NOEXIST);
	t = bpf_map_lookup_elem(&thread_trees, &thread);
	if (t)
		claim_tree(t);
	return t;
}
