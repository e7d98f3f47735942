/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * accepts - each TCP connection that a process accepts.
 *
 * Hooks:   If functions can be traced:
 *          fentry security_sock_graft    each accept, including the kernel's own
 *          fexit inet_csk_accept         tells from which listener. It is not seen for a
 *                                        thread that is already waiting inside, because
 *                                        the exit is hooked at the entry
 *          If there are only probes:
 *          kprobe security_sock_graft    the same
 *          kprobe inet_csk_accept        the same
 *          Otherwise:
 *          tp_btf sys_exit               accept, accept4, socketcall
 *          tp_btf io_uring_complete      accepts through io_uring, Linux 6.0
 *          tp_btf io_uring_submit_req,   tell to which multishot request a completion
 *                 io_uring_task_add      belongs
 * Output:  ring accepts, one record for each connection. User space is not woken, and
 *          drains it at its interval.
 * Counts:  connections that a process took. The time that one waited in the queue is the
 *          kernel's own record of the end of the handshake. So no hook is needed there,
 *          and connections older than nettap have it too.
 * Loss:    STAT_LOST_RING_FULL if user space is too slow; STAT_LOST_UNREADABLE if another
 *          thread closed the new socket before we looked. If another thread uses the same entry
 *          of taken at that moment, only the state of the queue stays unknown.
 *          While a program is preempted, the kernel skips other runs of it on that CPU:
 *          fentry if the kernel is preemptible, tp_btf from Linux 7.0 on. It counts them
 *          (recursion_misses). User space reports those of see_graft, but not those of
 *          see_syscall, which may be of any system call.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/accepts/accept.h"
#include "lib/program/stats.h"
#include "lib/program/limit.h"
#include "lib/program/selftest.h"
#include "lib/accepts/syscall.h"
#include "lib/accepts/uring.h"

struct proto_accept_arg;

/* Room for 10,000 records, as many as there may be between two collections. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21);
	__type(value, struct accept);
} accepts SEC(".maps");

/*
 * The queue that a thread has taken a connection from, until it is reported. Each half has the thread's id above the
 * number, so a thread finds neither the other half of an entry nor another one's.
 */
struct taken {
	__u64 length;
	__u64 limit;
};

#define TAKEN 4096

/*
 * By the lower bits of the thread's id. A thread has an entry for about a microsecond. If another one with the same
 * bits accepts meanwhile, the state of the queue stays unknown for one of them.
 */
static volatile struct taken taken[TAKEN];

/*
 * Where there are only probes: the listener that a thread is accepting from, between the two functions. A thread that
 * found the queue empty leaves its entry behind.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64); /* pid and tgid */
	__type(value, struct sock *);
} accepting SEC(".maps");

const volatile bool complete_has_cqe = 1; /* io_uring_complete's 3rd argument, since 6.13 */

/* The running task accepted sk: see note_accept. */
static __always_inline void report(struct sock *sk, struct tcp_sock *tcp, struct queue queue, bool known)
{
	struct accept *accept;

	count_stat(STAT_SEEN);
	if (!is_within_limit()) {
		count_stat(STAT_SAMPLED_OUT);
		return;
	}
	accept = bpf_ringbuf_reserve(&accepts, sizeof(*accept), 0);
	if (!accept) {
		count_stat(STAT_LOST_RING_FULL);
		return;
	}
	note_accept(accept, sk, tcp, queue, known);
	bpf_ringbuf_submit(accept, BPF_RB_NO_WAKEUP);
}

/* The same for a new file. A socket of another kind is ignored. */
static __always_inline void report_file(struct file *file, struct sock *listener)
{
	struct sock *sk = sock_of_file(file);

	if (!sk) {
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_UNREADABLE);
	} else if (is_tcp(sk, false)) {
		report(sk, (struct tcp_sock *)tcp_of(sk), queue_of(listener), false);
	}
}

/* The queue that the running thread has taken a connection from. */
static __always_inline struct queue taken_from(void)
{
	__u32 thread = THIS_TASK(pid);
	volatile struct taken *entry = &taken[thread % TAKEN];
	__u64 length = entry->length, limit = entry->limit;
	struct queue queue = { .length = UNKNOWN, .limit = UNKNOWN };

	if (length >> 32 == thread && limit >> 32 == thread) {
		queue.length = length;
		queue.limit = limit;
	}
	entry->length = 0;
	return queue;
}

/* The queue that the running thread accepts from. */
static __always_inline struct queue accepted_from(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct sock **listener = bpf_map_lookup_elem(&accepting, &thread);
	struct queue queue = { .length = UNKNOWN, .limit = UNKNOWN };

	if (listener) {
		queue = queue_of(*listener);
		bpf_map_delete_elem(&accepting, &thread);
	}
	return queue;
}

bool fired_see_graft;

/* A new connection gets its struct socket, in the process that accepts it. */
SEC("fentry/security_sock_graft")
int BPF_PROG(see_graft, struct sock *sk, struct socket *parent)
{
	struct tcp_sock *tcp;

	if (!is_enabled(&fired_see_graft) || !is_tcp(sk, true))
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk); /* NULL for MPTCP */
	if (tcp)
		report(sk, tcp, taken_from(), true);
	else
		report(sk, (struct tcp_sock *)tcp_of(sk), taken_from(), false);
	return 0;
}

bool fired_probe_graft;

/* The same if there are only probes. */
SEC("kprobe/security_sock_graft")
int probe_graft(struct pt_regs *ctx)
{
	struct sock *sk = first_argument(ctx);

	if (is_enabled(&fired_probe_graft) && is_tcp(sk, false))
		report(sk, (struct tcp_sock *)tcp_of(sk), accepted_from(), false);
	return 0;
}

/* A thread has taken sk from the queue of a listener. */
static __always_inline void note_queue(struct sock *listener, struct sock *sk)
{
	__u32 thread = THIS_TASK(pid);
	volatile struct taken *entry = &taken[thread % TAKEN];

	if (!sk) /* a non-blocking accept found the queue empty */
		return;
	entry->length = (__u64)thread << 32 | (__u32)listener->sk_ack_backlog;
	entry->limit = (__u64)thread << 32 | (__u32)listener->sk_max_ack_backlog;
}

bool fired_note_accept_of;

SEC("fexit/inet_csk_accept")
int BPF_PROG(note_accept_of, struct sock *listener, struct proto_accept_arg *arg, struct sock *sk)
{
	if (!is_enabled(&fired_note_accept_of))
		return 0;
	note_queue(listener, sk);
	return 0;
}

/* The same before Linux 6.10. */
bool fired_note_accept_of_old;

SEC("fexit/inet_csk_accept")
int BPF_PROG(note_accept_of_old, struct sock *listener, int flags, int *err, bool kern,
	     struct sock *sk)
{
	if (!is_enabled(&fired_note_accept_of_old))
		return 0;
	note_queue(listener, sk);
	return 0;
}

bool fired_note_accept_from;

/*
 * At the entry, because a probe of the exit sees only a limited number of the threads that wait
 * inside.
 */
SEC("kprobe/inet_csk_accept")
int note_accept_from(struct pt_regs *ctx)
{
	struct sock *listener = first_argument(ctx);
	__u64 thread = bpf_get_current_pid_tgid();

	if (is_enabled(&fired_note_accept_from))
		bpf_map_update_elem(&accepting, &thread, &listener, BPF_ANY);
	return 0;
}

bool fired_see_syscall;

SEC("tp_btf/sys_exit")
int BPF_PROG(see_syscall, struct pt_regs *regs, long fd)
{
	if (fd < 0 || !is_accept(regs))
		return 0;
	if (!is_enabled(&fired_see_syscall))
		return 0;
	report_file(file_of_fd(fd), sock_of_file(file_of_fd(accept_argument(regs))));
	return 0;
}

/* request is NULL for all but the last completion of a multishot accept. */
static __always_inline void report_completion(struct request_key *key, struct io_kiocb *request, int result)
{
	if (!request)
		request = recall_request(key);
	else if (is_accept_request(request))
		bpf_map_delete_elem(&requests, key);
	if (is_accept_request(request) && result >= 0)
		report_file(accepted_file(request, result), sock_of_file(BPF_CORE_READ(request, file)));
}

bool fired_see_completion;

SEC("tp_btf/io_uring_complete")
int see_completion(unsigned long long *ctx)
{
	struct request_key key = {.ring = ctx[0]};
	int result;

	if (!is_enabled(&fired_see_completion))
		return 0;
	if (complete_has_cqe) {
		struct io_uring_cqe *cqe = (struct io_uring_cqe *)ctx[2];

		key.user_data = BPF_CORE_READ(cqe, user_data);
		result = BPF_CORE_READ(cqe, res);
	} else {
		key.user_data = ctx[2];
		result = ctx[3];
	}
	report_completion(&key, (struct io_kiocb *)ctx[1], result);
	return 0;
}

bool fired_note_submission;

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(note_submission, struct io_kiocb *request)
{
	if (!is_enabled(&fired_note_submission))
		return 0;
	remember_request(request);
	return 0;
}

/*
 * This also records requests that were submitted before nettap started: a connection wakes them up.
 */
bool fired_note_wakeup;

SEC("tp_btf/io_uring_task_add")
int BPF_PROG(note_wakeup, struct io_kiocb *request)
{
	if (!is_enabled(&fired_note_wakeup))
		return 0;
	remember_request(request);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
