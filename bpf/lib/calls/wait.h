/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "conversation.h"
#include "../syscall/entry.h"
#include "tree.h"

bool with_off_cpu; /* make nodes for the time off the CPU */

/*
 * The number of the system call that the running thread is in. entry is the number with which it
 * entered the kernel. The result is NO_SYSCALL for a kernel thread and for a 32-bit call, whose
 * number is from another table. It is IN_USER_MODE if the thread is in no system call, but an
 * interrupt came while it was in user mode and is served on the thread's empty stack. arm64 detects
 * that in another way; there a thread that is in no system call does io_uring's work after a system
 * call.
 */
#define IN_USER_MODE (-2)

static __always_inline __s32 number_of(long entry)
{
	if (THIS_TASK(flags) & (PF_KTHREAD | PF_IO_WORKER))
		return NO_SYSCALL;
#if defined(__TARGET_ARCH_x86)
	if (entry < 0)
		return IN_USER_MODE;
#endif
	return is_32bit_call() ? NO_SYSCALL : entry;
}

/*
 * Whether the running thread's call is about the fd of the system call. Of the work that is done
 * after a system call only that of a close is: io_uring's requests can be carried out then as well.
 */
static __always_inline bool is_about_fd(__s32 number, struct pt_regs *regs, bool may_be_behind)
{
	return !may_be_behind || number == SYS_CLOSE || !is_behind_call(regs);
}

/* That fd, if there is one. */
static __always_inline __s32 fd_of(__s32 number, struct pt_regs *regs, bool may_be_behind)
{
	if (!(operation_of(number) & (ON_SOCKET | ON_FILE)) || makes_sockets(number))
		return NO_FD;
	return is_about_fd(number, regs, may_be_behind) ? first_of(regs) : NO_FD;
}

/* Finds out, once for each call, which fd and socket it is about. */
static __always_inline void identify(struct tree *t)
{
	struct call *call = &t->call;
	struct pt_regs *regs;
	struct sock *sk;
	__u8 how;

	if (t->identified)
		return;
	t->identified = 1;
	how = operation_of(call->syscall);
	if (call->fd < 0)
		return;
	sk = sock_of_file(file_of_fd(call->fd));
	if (!sk && how & ON_THIRD) {
		regs = user_registers();
		call->fd = (int)third_of(regs);
		sk = sock_of_file(file_of_fd(call->fd));
		t->operation = OPERATION_SEND;
	} else {
		t->operation = how & OPERATION_KIND;
	}
	t->sock = (__u64)sk;
}

/* Whether a thread waits for the lock of the socket. */
static __always_inline bool is_contended(struct sock *sk)
{
	void *head = &sk->sk_lock.wq.head;

	return BPF_CORE_READ(sk, sk_lock.owned) && BPF_CORE_READ(sk, sk_lock.wq.head.next) != head;
}

/*
 * What the running thread, which is about to leave the CPU, waits for. A signal ends any wait for
 * the network. A wait that a signal does not end is for a lock, for memory or for a page, and with
 * PREEMPT_RT for what is a spin lock on other kernels.
 */
static __always_inline enum wait wait_of(struct tree *t, __u32 task_state)
{
	struct sock *sk;
	__u8 state;

	identify(t);
	sk = (struct sock *)t->sock;
	if (!sk)
		return WAIT_OTHER;
	if (!(task_state & TASK_INTERRUPTIBLE))
		return is_contended(sk) ? WAIT_LOCK : WAIT_OTHER;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	switch (t->operation) {
	case OPERATION_ACCEPT:
		return WAIT_ACCEPT_QUEUE;
	case OPERATION_CONNECT:
		return WAIT_HANDSHAKE;
	case OPERATION_RECEIVE:
		return state == STATE_SYN_SENT ? WAIT_HANDSHAKE : WAIT_RECEIVE_QUEUE;
	case OPERATION_SEND:
		return state == STATE_SYN_SENT ? WAIT_HANDSHAKE : WAIT_SEND_BUFFER;
	}
	return WAIT_OTHER;
}

/*
 * Whether a thread that leaves the CPU waits in io_uring_enter until any of its operations has ended. As in poll, what it
 * waits for on sockets are waits of their own.
 */
static __always_inline bool waits_for_ring(const struct tree *t, __u32 task_state)
{
	return t->call.syscall == SYS_IO_URING_ENTER && !t->sock && task_state & TASK_INTERRUPTIBLE;
}

/* How much later now is than then; 0 if it is not, as the clocks of two CPUs differ a little. */
static __always_inline __u64 since(__u64 then, __u64 now)
{
	__s64 passed = now - then;

	return passed > 0 ? passed : 0;
}

static __always_inline __u32 add_node(struct tree *t, __u16 function, __u8 flags, __s32 result, __u64 now)
{
	struct call *call = &t->call;
	struct frame *caller = innermost(t);
	__u64 n = READ_ONCE(call->nodes);
	struct call_node *node;

	if (n >= MAX_NODES) {
		call->lost_nodes++;
		return NO_NODE;
	}
	CHECKED(n);
	node = &call->node[n];
	node->start_ns = since(call->start_ns, now);
	node->duration_ns = 0;
	node->result = result;
	node->function = function;
	node->parent = caller ? caller->node : NO_NODE;
	node->flags = flags;
	call->nodes = n + 1;
	return n;
}

static __always_inline void close_node(struct tree *t, __u64 n, __u64 now, __s32 result, __u8 flags)
{
	struct call_node *node;

	if (n >= MAX_NODES)
		return;
	CHECKED(n);
	node = &t->call.node[n];
	node->duration_ns = since(t->call.start_ns + node->start_ns, now);
	node->result = result;
	node->flags = flags | (node->flags & ~NODE_OPEN);
}

/* The running thread leaves the CPU. Its state is TASK_RUNNING if it could go on. */
static __always_inline void leave_cpu(struct tree *t, __u32 state)
{
	__u64 now = bpf_ktime_get_boot_ns();
	bool runs = state == TASK_RUNNING;

	t->off_ns = now;
	t->wake_ns = runs ? now : 0;
	t->wait = WAIT_OTHER;
	t->idle = 0;
	if (!runs) {
		t->wait = wait_of(t, state);
		t->idle = t->wait == WAIT_ACCEPT_QUEUE ||
			  (t->wait == WAIT_RECEIVE_QUEUE && waits_for_work(t, (struct sock *)t->sock));
		if (t->idle) {
			t->off_jiffies = bpf_jiffies64();
			t->off_written = written_on((struct sock *)t->sock);
		} else {
			t->idle = waits_for_ring(t, state);
		}
	}
	if (with_off_cpu)
		t->off_node = add_node(t, FUNCTION_OFF_CPU, NODE_OPEN, 0, now);
}

__u64 min_duration_ns;

/*
 * Whether the thread is in a function whose end is probed (kretprobe). The return address is replaced
 * then, and some kernels warn if they are to find the right one of a thread that is about to run.
 */
static __always_inline bool is_probed(struct task_struct *task)
{
	return (bpf_core_field_exists(task->rethooks) && BPF_CORE_READ(task, rethooks.first)) ||
	       (bpf_core_field_exists(task->kretprobe_instances) && BPF_CORE_READ(task, kretprobe_instances.first));
}

/*
 * Keeps the kernel's stack of a thread that comes back to the CPU, which is still the one with which it
 * left, if it has waited for so long that its call is slow. So only slow calls pay for it.
 */
static __always_inline void keep_stack(struct tree *t, struct task_struct *task, __u64 waited)
{
	long bytes;

	if (t->idle || waited < min_duration_ns || waited <= t->longest_ns ||
	    !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_task_stack))
		return;
	t->longest_ns = waited;
	t->frames = 0;
	if (is_probed(task))
		return;
	bytes = bpf_get_task_stack(task, t->stack, sizeof(t->stack), 0);
	t->frames = bytes > 0 ? bytes / sizeof(t->stack[0]) : 0;
}

/* A thread is back on the CPU. */
static __always_inline void reach_cpu(struct tree *t, struct task_struct *task)
{
	__u64 now = bpf_ktime_get_boot_ns(), off = t->off_ns, wake = t->wake_ns, asked;
	__u64 wait = READ_ONCE(t->wait);
	__s32 runnable;

	if (now < off)
		now = off;
	if (wake < off || wake > now)
		wake = now;
	if (wait < WAIT_KINDS) {
		CHECKED(wait);
		t->call.blocked_ns[wait] += wake - off;
	}
	t->call.runnable_ns += now - wake;
	keep_stack(t, task, wake - off);
	if (t->idle) {
		asked = wait == WAIT_RECEIVE_QUEUE ? asked_since(t, (struct sock *)t->sock, off, now) : 0;
		t->call.idle_ns += (asked && asked < wake ? asked : wake) - off;
	}
	if (t->off_node != NO_NODE) { /* even if with_off_cpu has changed meanwhile */
		runnable = now - wake > 0x7fffffff ? 0x7fffffff : now - wake;
		close_node(t, t->off_node, now, runnable, wait << 4);
		t->off_node = NO_NODE;
	}
	t->off_ns = 0;
}
