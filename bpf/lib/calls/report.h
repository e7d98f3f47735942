/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../program/stats.h"
#include "../context/ask.h"
#include "expected.h"
#include "filter.h"
#include "given.h"
#include "shares.h"
#include "thread.h"

/* Room for 1,000 trees of the largest size, or 4,000 trees of a few functions. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21);
	__type(value, struct call);
} calls SEC(".maps");

__u64 sample_threshold; /* how many of 2^32 calls are kept by chance */
bool idle_waits;

/* A bit for each errno whose failures are reported, however short the call was. */
__u64 wanted_errors[3];

#define EAGAIN 11
#define EINPROGRESS 115
#define MAX_ERRNO 4095
#define LAST_ERROR 133 /* a higher number tells the kernel to restart the call */

/* How the returned value of a function shows a failure. Go: kernel.Result. */
enum result_kind {
	RESULT_NONE, /* it cannot fail */
	RESULT_INT,
	RESULT_LONG,
	RESULT_POINTER, /* ERR_PTR */
};

static __always_inline __s64 result_of(__u32 kind, __s64 value)
{
	return kind == RESULT_INT ? (__s32)value : value;
}

static __always_inline bool is_wanted_failure(__u32 kind, __s64 result)
{
	__u64 error = -result;

	if (kind == RESULT_NONE || error > LAST_ERROR || !error)
		return false;
	return wanted_errors[error >> 6 & 3] >> (error & 63) & 1;
}

static __always_inline void note_socket(struct call *call, struct sock *sk)
{
	call->family = family_of(sk);
	call->protocol = BPF_CORE_READ(sk, sk_protocol);
	call->netns_inode = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (call->family != AF_INET && call->family != AF_INET6)
		return;
	note_addresses(call->local_address, call->peer_address, sk, false);
	call->local_port = local_port_of(sk);
	call->peer_port = peer_port_of(sk);
}

/* Fills in who makes the call. */
static __always_inline void note_caller(struct call *call)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	call->process = process_of(task);
	__builtin_memset(&call->seen, 0, sizeof(call->seen));
	see_current(&call->seen, bpf_ktime_get_boot_ns());
	call->thread_id = BPF_CORE_READ(task, pid);
	bpf_get_current_comm(call->thread_name, sizeof(call->thread_name));
}

/* Fills in who made the call, and on which socket. */
static __always_inline void note_call(struct tree *t)
{
	struct call *call = &t->call;
	struct sock *sk;

	identify(t);
	if (call->result < 0 && !t->connected)
		find_given(t);
	note_caller(call);
	sk = (struct sock *)t->sock;
	if (t->operation == OPERATION_ACCEPT && call->result >= 0)
		sk = sock_of_file(file_of_fd(call->result)); /* the new one */
	call->path_end = PATH_OF_NONE;
	call->path_bytes = 0;
	if (t->connected && (!sk || !peer_port_of(sk)))
		return; /* a failed connection no longer has its peer's address, which was recorded before */
	__builtin_memset(call->local_address, 0, sizeof(call->local_address));
	__builtin_memset(call->peer_address, 0, sizeof(call->peer_address));
	call->local_port = call->peer_port = call->family = call->protocol = call->netns_inode = 0;
	if (sk)
		note_socket(call, sk);
	if (call->result < 0 && !t->connected)
		note_given(call, &t->given, sk);
}

/*
 * The next random number of a thread that has a place. It is computed by a linear congruence, which
 * needs no helper call and the fewest instructions. The upper bits are the random ones, and they
 * decide whether a number is below a threshold.
 */
static __always_inline __u32 random_of(struct thread *th)
{
	if (!th)
		return bpf_get_prandom_u32();
	th->random = th->random * 1664525 + 1013904223;
	return th->random;
}

/* Whether the call that begins is one of those that are kept by chance. */
static __always_inline bool is_drawn(struct thread *th)
{
	return random_of(th) < sample_threshold;
}

/* Why the call that has ended is to be reported. */
static __always_inline enum reason reason_of(struct tree *t, __u32 kind)
{
	struct call *call = &t->call;
	__u64 idle = idle_waits ? 0 : call->idle_ns;

	call->expected = 0;
	if (is_wanted_failure(kind, call->result)) {
		call->expected = omits_expected && is_expected(-call->result);
		if (!call->expected)
			return REASON_FAILED;
	}
	if (call->duration_ns - idle >= min_duration_ns)
		return REASON_SLOW;
	return t->sampled ? REASON_SAMPLED : REASON_NONE;
}

bool keep_unsampled; /* calls of spans that are not recorded */
bool with_reader;    /* user space reads the ring; otherwise only durations are counted */

#define REST_NS 10000000 /* how long a thread of a silent process is left alone */

/*
 * Finds the span of the application that the running thread works on now, in a call that began at
 * began. silent_ns is when its process was last found to be silent.
 */
static __always_inline void context_at(struct context *c, __u64 began, __u64 now, __u64 *silent_ns)
{
	struct message_context *message = NULL;
	struct observed *process;

	__builtin_memset(c, 0, sizeof(*c));
	if (with_current_task && (with_http || with_socket))
		message = bpf_task_storage_get(&messages, current_task(), 0, 0);
	if (message && message->time_ns < began)
		message = NULL; /* of an earlier call */
	if (message && message->context.source == CONTEXT_HTTP) {
		*c = message->context;
		return;
	}
	process = now - *silent_ns < REST_NS ? NULL : observed_process();
	if (thread_context(c, process))
		return;
	if (!process && now - *silent_ns >= REST_NS)
		meet_process();
	*c = message ? message->context : (struct context){};
	if (process && !may_publish(process))
		*silent_ns = now;
}

/* Finds the span of the application that the running thread's call belongs to. */
static __always_inline void find_context(struct tree *t)
{
	context_at(&t->call.context, t->call.start_ns, t->call.start_ns + t->call.duration_ns, &t->silent_ns);
}

static __always_inline bool is_of_unsampled(const struct context *c)
{
	return c->source && !c->link && !c->sampled;
}

/* Puts the stack behind the nodes and the path, and returns the size of the record. */
static __always_inline __u32 complete_record(struct tree *t)
{
	struct call *call = &t->call;
	__u64 size = READ_ONCE(call->nodes);

	if (size > MAX_NODES)
		size = MAX_NODES;
	if (call->path_bytes)
		size += PATH_NODES;
	CHECKED(size);
	call->frames = t->frames;
	if (call->frames) {
		__builtin_memcpy(&call->node[size], t->stack, sizeof(t->stack));
		size += STACK_NODES;
	}
	return CALL_HEAD + size * sizeof(struct call_node);
}

/*
 * Reports a call. This is a global function, which the verifier checks once and not at each of its
 * calls. Before Linux 5.12 only scalars can be passed to one.
 */
__noinline int report_call(enum reason reason)
{
	struct tree *t = this_tree();
	struct call *call;

	if (!t)
		return 0;
	call = &t->call;
	call->reason = reason;
	note_call(t);
	if (call->fd >= 0 && !t->sock && shows_inside(call->syscall, operation_of(call->syscall)))
		return 0; /* a file that is reached through sockets, as on NFS, and is none itself */
	if (!is_wanted_connection(call))
		return 0;
	if (reason != REASON_NONE)
		find_context(t);
	if (reason == REASON_NONE || !with_reader || (!keep_unsampled && is_of_unsampled(&call->context))) {
		count_stat(STAT_SAMPLED_OUT);
		return 0;
	}
	if (!is_within_share(reason, call->process.pid))
		return 0;
	count_stat(STAT_SEEN);
	if (bpf_ringbuf_output(&calls, call, complete_record(t), BPF_RB_NO_WAKEUP))
		count_stat(STAT_LOST_RING_FULL);
	return 0;
}

/*
 * Records that a thread that only receives has received on fd. This is a global function: see
 * report_call.
 */
__noinline int note_received(__s32 fd)
{
	struct sock *sk = sock_of_file(file_of_fd(fd));
	struct thread *th = this_thread();
	struct tree *t;

	if (!sk)
		return 0;
	if (th) {
		note_reader(&th->conversation[fd & (CONVERSATIONS - 1)], sk);
		return 0;
	}
	t = this_tree();
	if (t)
		note_reader(&t->conversation[fd & (CONVERSATIONS - 1)], sk);
	return 0;
}

/*
 * What is remembered of a system call of an operation_of(): the operation if it moves data, and OPERATION_OTHER for a
 * close.
 */
static __always_inline __u8 deed_of(__u8 how)
{
	return how & REMEMBERED ? how & OPERATION_KIND : OPERATION_NONE;
}

/* Remembers for later calls in which direction data went. all holds what the thread remembers. */
static __always_inline void note_deed(struct conversation *all, __u8 deed, __s32 fd, __s64 result)
{
	struct conversation *c = &all[fd & (CONVERSATIONS - 1)];

	if (!deed || fd < 0)
		return;
	if (deed != OPERATION_OTHER && result < 0 && result != -EINPROGRESS)
		return;
	note_exchange(c, deed, fd);
	if (is_reader(c, deed))
		note_received(fd);
}

/* Ends the running thread's call, which has returned. th is the thread's place, or NULL. */
static __always_inline void finish(struct thread *th, struct tree *t, __u32 kind, __s64 result, __u64 now)
{
	struct call *call = &t->call;
	enum reason reason;

	call->duration_ns = since(call->start_ns, now);
	call->result = result;
	note_deed(th ? th->conversation : t->conversation, deed_of(operation_of(call->syscall)), call->fd, result);
	reason = reason_of(t, kind);
	if (reason != REASON_NONE || filters_connections)
		report_call(reason);
	else
		count_stat(STAT_SAMPLED_OUT);
}
