/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../context/socket.h"
#include "durations.h"
#include "report.h"

/*
 * Waits of programs that use sockets in non-blocking mode. An operation begins in one call and ends
 * in another, and in between the program waits for many sockets at once in a call that is about
 * none of them. So what is under way is kept for each socket.
 */

/* When calls were last enabled. What began before is not known completely. */
__u64 waits_since_ns;

/* A connect that is under way, or whose connection was not used yet, kept as the record that will be made of it. */
struct connecting {
	__u64 words[CALL_HEAD / 8];
	__u64 established_ns; /* 0: it is under way */
};

_Static_assert(CALL_HEAD % 8 == 0, "a record is copied in words");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connecting);
} connects SEC(".maps");

/*
 * How most messages on a socket are dealt with, so that a program can leave early. It is decided when
 * one was examined in full: see set_course.
 */
enum __attribute__((packed)) course {
	COURSE_OPEN,      /* each message is examined in full */
	COURSE_SETTLED,   /* reads are only counted: see SETTLED */
	COURSE_MONOLOGUE, /* the program only sends, and only when it last did is noted */
};

/*
 * What a socket is. Of TCP, here with MPTCP, it is seen that a program closes it. The place of another
 * one outlives it, and the next socket at the same address can have the same ports, or the same peer.
 */
enum __attribute__((packed)) socket_kind {
	SOCKET_TCP,
	SOCKET_UDP,
	SOCKET_UNIX,
};

/*
 * Which side of a connection acts next. A place is found by the socket's address without a helper,
 * from any kind of program. It belongs to one socket until another socket needs it while nothing is
 * under way on the first.
 */
struct turn {
	__u64 sk; /* address; 0: the place is free */
	__u64 asked_ns; /* when the program asked; 0: it waits for no answer */
	__u64 ready_ns; /* since when there is something to read; 0: there is nothing */
	__u64 full_ns;  /* when a send found no room; 0: there is room */
	__u64 silent_ns; /* see context_at */
	struct context context; /* of what the program asked */
	__u32 ports;    /* of both ends: a later socket can be at the same address */
	__u32 identity; /* of a socket whose place outlives it: see identity_of */
	__u32 stint;    /* in which the program asked: see stint_here; 0: it waits in some other way */
	enum socket_kind kind;
	__u8 asks;      /* number of sends since the last answer */
	__u8 serves;    /* the program is asked on this socket, and does not ask */
	__u8 answered;  /* an answer has come on this socket */
	__u8 found;     /* contexts were found for what it asks */
	__u8 blocks;    /* see is_settled */
	__u8 reading;   /* a blocking call has found nothing, and will read what comes next */
	enum course course;
	__u8 pad[4];
};

/*
 * A socket in blocking mode is mostly read by calls that wait themselves and are reported as calls.
 * After this many such reads in a row, before none of which data lay there for the least duration,
 * only one read in about 250 is examined, until one finds otherwise. If durations are counted, all
 * reads are examined.
 */
#define SETTLED 8

#define TURN_BITS 14
#define STALE_NS 60000000000ULL /* after this time another socket may take the place */

static struct turn turns[1 << TURN_BITS];

/* The last successful connect of a process to a port: see has_lost_race. */
struct winner_key {
	__u32 pid;
	__u16 port; /* host byte order */
	__u16 pad;
};

struct winner {
	__u64 start_ns;
	__u64 end_ns;
	__u8 address[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct winner_key);
	__type(value, struct winner);
} winners SEC(".maps");

/* A wait that is over. */
struct ended {
	__u64 start_ns;
	__u64 end_ns;
	__u64 ready_ns; /* when there was something to read; 0: not known, or without meaning for this wait */
	__u64 sk;       /* address */
	__s64 result;   /* negative: the error with which it ended */
	struct context context;
	enum socket_wait wait;
	enum wait_flag flags;
	__u8 pad[6];
};

#define EPIPE 32
#define ENETDOWN 100
#define ETIMEDOUT 110

#define PORT_OF_NAMES 53

#define RACE_BEGINS_NS 2000000000ULL /* connects that race begin within this time */
#define RACE_ENDS_NS 100000000ULL    /* and the losers are closed this soon after the winner has succeeded */
#define YOUNG_NS 2000000000ULL       /* a connection that is reset unused within this time has not been made */
#define GIVE_UP_NS 50000000ULL       /* closing a socket sooner than this after a last message is not giving up */
#define MONOLOGUE 8                  /* after this many sends without anything received, no answers are expected */

static __always_inline bool has_turns(struct sock *sk, bool known)
{
	__u16 family = FIELD_OF(sk, __sk_common.skc_family);
	__u16 protocol;

	if (family == AF_UNIX)
		return FIELD_OF(sk, sk_type) == SOCK_STREAM;
	if (family != AF_INET && family != AF_INET6)
		return false;
	protocol = FIELD_OF(sk, sk_protocol);
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_MPTCP;
}

/*
 * Whether a socket for which a packet has come was opened to be asked. A datagram socket on which
 * the program asks would have a place already.
 */
static __always_inline bool is_asked(struct sock *sk, bool known)
{
	if (FIELD_OF(sk, __sk_common.skc_family) == AF_UNIX)
		return BPF_CORE_READ((struct unix_sock *)sk, addr);
	if (FIELD_OF(sk, sk_protocol) == IPPROTO_UDP)
		return !FIELD_OF(sk, __sk_common.skc_dport);
	if (FIELD_OF(sk, sk_protocol) == IPPROTO_MPTCP)
		return is_passive_mptcp(sk);
	return FIELD_OF(sk, sk_max_ack_backlog);
}

/* Whether a socket was opened to ask. The ends of a socketpair are neither asking nor asked. */
static __always_inline bool is_asking(struct sock *sk)
{
	struct unix_sock *peer;

	if (is_passive(sk, family_of(sk)))
		return false;
	if (family_of(sk) != AF_UNIX)
		return true;
	peer = (struct unix_sock *)BPF_CORE_READ((struct unix_sock *)sk, peer);
	return BPF_CORE_READ(peer, addr);
}

static __always_inline struct turn *place_of_turn(struct sock *sk)
{
	return &turns[low_half(sk) * 0x9e3779b1U >> (32 - TURN_BITS)];
}

static __always_inline enum socket_kind kind_of(struct sock *sk, bool known)
{
	if (FIELD_OF(sk, __sk_common.skc_family) == AF_UNIX)
		return SOCKET_UNIX;
	return FIELD_OF(sk, sk_protocol) == IPPROTO_UDP ? SOCKET_UDP : SOCKET_TCP;
}

/*
 * By what a socket is told from a later one, of which no end is seen: half of its cookie. If it has none, as where programs
 * cannot give it one, that is for a Unix socket its peer's address, and which end it is.
 */
static __always_inline __u32 identity_of(struct sock *sk, enum socket_kind kind, bool known)
{
	__u64 cookie = FIELD_OF(sk, __sk_common.skc_cookie.counter);

	if (cookie || kind != SOCKET_UNIX)
		return cookie;
	return (__u64)BPF_CORE_READ((struct unix_sock *)sk, peer) | is_passive(sk, AF_UNIX);
}

/* Whether a place belongs to a socket, or to an earlier one whose place outlives it. */
static __always_inline bool belongs_to(const struct turn *turn, struct sock *sk, bool known)
{
	return turn->sk == (__u64)sk && turn->ports == FIELD_OF(sk, __sk_common.skc_portpair);
}

/*
 * Whether a place belongs to a datagram socket that had no port when it sent for the first time, but has one now. Only hooks
 * that run before the kernel sends find it so.
 */
static __always_inline bool has_got_port(struct turn *turn, struct sock *sk, bool known)
{
	if (turn->sk != (__u64)sk || turn->ports || turn->kind != SOCKET_UDP || is_passive(sk, family_of(sk)))
		return false;
	turn->ports = FIELD_OF(sk, __sk_common.skc_portpair);
	return true;
}

/* The place of a socket, or NULL if it has none. */
static __always_inline struct turn *turn_of(struct sock *sk, bool known)
{
	struct turn *turn = place_of_turn(sk);

	if (!belongs_to(turn, sk, known) && !has_got_port(turn, sk, known)) {
		turn = NULL;
	} else if (turn->kind != SOCKET_TCP && turn->identity != identity_of(sk, turn->kind, known)) {
		WRITE_ONCE(turn->sk, 0); /* that one is closed */
		turn = NULL;
	}
	CHECKED(turn);
	return turn;
}

static __always_inline bool is_settled(const struct turn *turn)
{
	return turn->blocks >= SETTLED && !with_durations;
}

/* How the next messages on a socket are dealt with. */
static __always_inline void set_course(struct turn *turn)
{
	enum course course = COURSE_OPEN;

	if (turn->kind != SOCKET_UNIX && !turn->full_ns && !turn->reading) {
		if (is_settled(turn))
			course = COURSE_SETTLED;
		else if (!turn->serves && turn->asks > MONOLOGUE && !turn->ready_ns && !turn->found)
			course = COURSE_MONOLOGUE;
	}
	WRITE_ONCE(turn->course, course);
}

static __always_inline bool is_stale(const struct turn *turn)
{
	__u64 last = turn->asked_ns > turn->ready_ns ? turn->asked_ns : turn->ready_ns;

	if (turn->full_ns > last)
		last = turn->full_ns;
	return last + STALE_NS < bpf_ktime_get_boot_ns();
}

/* Gives a socket its place; NULL if another socket still needs that, which is counted as a loss. */
static __always_inline struct turn *make_turn(struct sock *sk, bool serves, bool known)
{
	struct turn *turn = place_of_turn(sk);

	if (turn->sk && turn->sk != (__u64)sk && (turn->asked_ns || turn->ready_ns || turn->full_ns) && !is_stale(turn)) {
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_MAP_FULL);
		return NULL;
	}
	WRITE_ONCE(turn->sk, 0);
	barrier();
	turn->asked_ns = turn->ready_ns = turn->full_ns = turn->silent_ns = 0;
	turn->asks = turn->answered = turn->found = turn->blocks = turn->reading = 0;
	turn->course = COURSE_OPEN;
	turn->serves = serves;
	turn->context.source = CONTEXT_NONE;
	turn->ports = FIELD_OF(sk, __sk_common.skc_portpair);
	turn->kind = kind_of(sk, known);
	if (turn->kind != SOCKET_TCP) {
		if (known)
			bpf_get_socket_cookie(sk);
		turn->identity = identity_of(sk, turn->kind, known);
	}
	barrier();
	WRITE_ONCE(turn->sk, (__u64)sk);
	return turn;
}

/*
 * Of the name iou-sqp-PID, the thread that submits. It never waits for one socket; a worker,
 * iou-wrk-PID, does.
 */
#define SQ_THREAD 's'

/*
 * Whether an operation of the running thread on a socket returns at once, even if the socket is in
 * blocking mode.
 */
static __always_inline bool is_of_ring(void)
{
	struct task_struct *task = current_task();

	if (task->flags & PF_IO_WORKER)
		return task->comm[4] == SQ_THREAD;
	return syscall_of(user_registers()) == SYS_IO_URING_ENTER;
}

static __always_inline bool is_non_blocking(struct sock *sk)
{
	struct socket *socket = sk->sk_socket;
	struct file *file = socket ? socket->file : NULL;

	return file && (file->f_flags & O_NONBLOCK || is_of_ring());
}

/*
 * The time from one sleep of a thread to the next as a number, which is another one after that and in
 * another thread.
 */
static __always_inline __u32 stint_here(void)
{
	struct task_struct *task = current_task();

	return low_half(task) + (__u32)task->nvcsw;
}

/* Whether a thread in poll or an epoll instance waits for the socket. */
static __always_inline bool is_awaited(struct sock *sk, bool known)
{
	struct socket_wq *queue = FIELD_OF(sk, sk_wq);

	return FIELD_OF(queue, wait.head.next) != &queue->wait.head;
}

/*
 * The program has asked at a time. If it closes the socket in the same stint, no thread has waited
 * for an answer, unless an event loop does that which had no time to sleep.
 */
static __always_inline void note_asking(struct sock *sk, struct turn *turn, __u64 time_ns, bool known)
{
	turn->asked_ns = time_ns;
	if (turn->kind == SOCKET_TCP)
		turn->stint = is_awaited(sk, known) ? 0 : stint_here();
}

/* When the running thread's call began; 0 if it is in no call that is wanted. */
static __always_inline __u64 call_began(void)
{
	struct thread *th = this_thread();
	struct tree *t;

	if (th && th->progress == CALL_NONE)
		return 0;
	if (th && th->progress == CALL_PLAIN)
		return th->start_ns;
	t = this_tree();
	return t && t->depth ? t->call.start_ns : 0;
}

/* Why a wait is to be reported. The choice of waits that are kept by chance is made here. */
static __always_inline enum reason reason_of_wait(__u64 duration_ns, __s64 result)
{
	if (is_wanted_failure(RESULT_LONG, result))
		return REASON_FAILED;
	if (duration_ns >= min_duration_ns)
		return REASON_SLOW;
	return is_drawn(this_thread()) ? REASON_SAMPLED : REASON_NONE;
}

/* Whether a record is to be sent to user space. If it is not, this is counted. */
static __always_inline bool is_sent_on(struct call *call)
{
	if (!is_wanted_connection(call))
		return false;
	if (call->reason == REASON_NONE || !with_reader || (!keep_unsampled && is_of_unsampled(&call->context))) {
		count_stat(STAT_SAMPLED_OUT);
		return false;
	}
	if (!is_within_share(call->reason, call->process.pid))
		return false;
	count_stat(STAT_SEEN);
	return true;
}

/* The descriptor that the running thread's call is about, if that is known. */
static __always_inline __s32 fd_here(void)
{
	struct pt_regs *regs = user_registers();

	return fd_of(number_of(syscall_of(regs)), regs, !with_lengths);
}

/* Fills in what the running thread knows of its wait. */
static __always_inline void note_wait(struct call *call, const struct ended *w)
{
	__builtin_memset(call, 0, CALL_HEAD);
	note_caller(call);
	call->start_ns = w->start_ns;
	call->duration_ns = since(w->start_ns, w->end_ns);
	call->result = w->result;
	call->context = w->context;
	call->wait = w->wait;
	call->wait_flags = w->flags;
	call->syscall = NO_SYSCALL;
	call->fd = fd_here();
	if (w->ready_ns) {
		call->wait_flags |= WAIT_HAS_LOCAL;
		if (w->ready_ns > w->start_ns)
			call->peer_ns = w->ready_ns - w->start_ns;
		call->local_ns = since(w->ready_ns, w->end_ns);
	}
	note_socket(call, (struct sock *)w->sk);
}

/* The running thread's call, which began at call_ns, returns the error of a wait that is reported: see is_told. */
static __always_inline void note_told(__u64 call_ns)
{
	struct thread *th = this_thread();

	if (th)
		th->told = call_ns;
}

/* Reports a wait of the running thread. This is a global function, which is verified once. */
__noinline int report_wait(const struct ended *w, enum reason reason)
{
	struct call *call;

	if (!w)
		return 0;
	call = bpf_ringbuf_reserve(&calls, CALL_HEAD, 0);
	if (!call) {
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_RING_FULL);
		return 0;
	}
	note_wait(call, w);
	call->reason = reason;
	if (is_sent_on(call))
		bpf_ringbuf_submit(call, BPF_RB_NO_WAKEUP);
	else
		bpf_ringbuf_discard(call, BPF_RB_NO_WAKEUP);
	return 0;
}

/*
 * Whether a wait is to be reported, or the filters of connections have to decide. If not, this is
 * counted.
 */
static __always_inline bool is_of_interest(const struct ended *w, enum reason *reason)
{
	*reason = reason_of_wait(since(w->start_ns, w->end_ns), w->result);
	if (*reason != REASON_NONE || filters_connections)
		return true;
	count_stat(STAT_SAMPLED_OUT);
	return false;
}

/* A connect in non-blocking mode begins. That of MPTCP is the one of its first subflow, which has the addresses. */
static __always_inline void begin_connect(struct sock *sk)
{
	struct connecting *connecting;
	struct ended w = { .wait = SOCKET_WAIT_CONNECT };
	__u64 silent_ns = 0;
	struct call *call;

	if (sk->sk_protocol == IPPROTO_MPTCP || !is_non_blocking(sk) || !call_began())
		return;
	connecting = bpf_sk_storage_get(&connects, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connecting) {
		count_stat(STAT_SEEN);
		count_stat(STAT_LOST_MAP_FULL);
		return;
	}
	connecting->established_ns = 0;
	call = (struct call *)connecting;
	w.start_ns = w.end_ns = bpf_ktime_get_boot_ns();
	w.sk = address_of(sk);
	note_wait(call, &w);
	context_at(&call->context, call->start_ns, call->start_ns, &silent_ns);
}

static __always_inline void note_winner(const struct call *call)
{
	struct winner_key key = { .pid = call->process.pid, .port = call->peer_port };
	struct winner winner = { .start_ns = call->start_ns, .end_ns = call->start_ns + call->duration_ns };

	__builtin_memcpy(winner.address, call->peer_address, sizeof(winner.address));
	bpf_map_update_elem(&winners, &key, &winner, BPF_ANY);
}

static __always_inline bool is_same_address(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/*
 * Whether a connect that was given up has lost a race against one to another address of the same
 * name, which has just succeeded. Names are not known here, so the other one is taken to be that of
 * the same process to the same port at about the same time.
 */
static __always_inline bool has_lost_race(const struct call *call, __u64 now)
{
	struct winner_key key = { .pid = call->process.pid, .port = call->peer_port };
	struct winner *winner = bpf_map_lookup_elem(&winners, &key);
	__u64 first, second;

	if (!winner || winner->end_ns < call->start_ns || is_same_address(winner->address, call->peer_address))
		return false;
	first = winner->start_ns < call->start_ns ? winner->start_ns : call->start_ns;
	second = winner->start_ns < call->start_ns ? call->start_ns : winner->start_ns;
	return second - first < RACE_BEGINS_NS && since(winner->end_ns, now) < RACE_ENDS_NS;
}

/*
 * A connect is over. error is positive, or 0 if there was none. The result is whether it is reported.
 * This is a global function, which is verified once.
 */
__noinline int report_connect(struct connecting *connecting, __u32 error, bool is_there, __u16 local_port)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct call *call;

	if (!connecting)
		return 0;
	call = (struct call *)connecting;
	call->duration_ns = since(call->start_ns, now);
	call->local_port = local_port;
	call->result = -(__s64)error;
	if (is_there) {
		note_winner(call);
	} else if (!error && has_lost_race(call, now)) {
		count_stat(STAT_SAMPLED_OUT);
		return 0;
	} else if (!error) {
		call->wait_flags |= WAIT_GIVEN_UP;
		call->result = -ETIMEDOUT;
	}
	call->reason = reason_of_wait(call->duration_ns, call->result);
	if (!is_sent_on(call))
		return 0;
	if (bpf_ringbuf_output(&calls, call, CALL_HEAD, BPF_RB_NO_WAKEUP))
		count_stat(STAT_LOST_RING_FULL);
	return 1;
}

static __always_inline bool is_in_connect(__u32 position)
{
	return !is_interrupt(position) && call_began() &&
	       (operation_of(number_of(syscall_of(user_registers()))) & OPERATION_KIND) == OPERATION_CONNECT;
}

/*
 * Reports a connect that is over. If it has failed, the next call on the socket returns the error.
 */
static __always_inline bool tell_connect(struct sock *sk, struct connecting *connecting, __u32 error, bool is_there)
{
	if (!report_connect(connecting, error, is_there, bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport))))
		return false;
	if (error)
		note_failed_connect(sk, error);
	return true;
}

/* A connect that a program may wait for has succeeded or failed. */
static __always_inline void end_connect(struct sock *sk, int state, __u32 position)
{
	struct connecting *connecting = bpf_sk_storage_get(&connects, sk, 0, 0);
	struct call *call = (struct call *)connecting;
	__u32 error = state == STATE_CLOSE ? sk->sk_err : 0;
	bool reported = false;

	if (!connecting)
		return;
	if (call->start_ns >= waits_since_ns && (state != STATE_CLOSE || error || !is_in_connect(position)))
		reported = tell_connect(sk, connecting, error, state != STATE_CLOSE);
	if (state == STATE_CLOSE) {
		bpf_sk_storage_delete(&connects, sk);
		return;
	}
	connecting->established_ns = bpf_ktime_get_boot_ns();
	if (reported)
		call->start_ns = connecting->established_ns;
}

/*
 * A connection is reset. If nothing was sent on it either way, its program has not been able to use it, and may not even
 * know yet that it was made. Then it is the connect that has failed.
 */
static __always_inline void end_unused(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	struct connecting *connecting;
	struct call *call;

	if (BPF_CORE_READ(tcp, bytes_sent) || BPF_CORE_READ(tcp, bytes_received))
		return;
	connecting = bpf_sk_storage_get(&connects, sk, 0, 0);
	if (!connecting)
		return;
	call = (struct call *)connecting;
	if (call->start_ns >= waits_since_ns && since(connecting->established_ns, bpf_ktime_get_boot_ns()) < YOUNG_NS)
		tell_connect(sk, connecting, ECONNRESET, false);
	bpf_sk_storage_delete(&connects, sk);
}

/*
 * Finds the context of a question that was asked on the socket with a cookie, when the wait for the answer
 * ends. Before Linux 6.3 a message is examined after the hook that tells that it was sent, so the context
 * that it has of its own is known only now. This is a global function, which is verified once.
 */
__noinline int note_asked(struct ended *w, __u64 cookie)
{
	struct exchange *e = cookie ? bpf_map_lookup_elem(&exchanges, &cookie) : NULL;
	struct context c;
	bool is_question;

	if (!w || !e || e->multiplexed || !is_own_exchange(e))
		return 0;
	is_question = e->time_ns >= w->start_ns;
	if ((!is_question && w->context.source) || !recall(&c, e, is_question ? e->time_ns : w->start_ns))
		return 0;
	if (is_question) {
		c.source = e->context.source;
		c.link = e->context.link;
	}
	w->context = c;
	return 0;
}

/* The cookie by which contexts of messages on the socket are remembered, which are only those of TCP; 0 if there are none. */
static __always_inline __u64 cookie_of_contexts(struct sock *sk, const struct turn *turn, bool known)
{
	return turn->kind == SOCKET_TCP ? FIELD_OF(sk, __sk_common.skc_cookie.counter) : 0;
}

/* Finds the context of what the program asked. known tells whether the pointer has its type for the verifier. */
static __always_inline void recall_question(struct ended *w, const struct turn *turn, struct sock *sk, bool known)
{
	w->context = turn->context;
	note_asked(w, cookie_of_contexts(sk, turn, known));
}

/* A program closes a connection on which an answer is outstanding. */
static __always_inline void give_up(struct sock *sk, struct turn *turn, bool known)
{
	struct ended w = { .wait = SOCKET_WAIT_RECEIVE, .flags = WAIT_GIVEN_UP, .result = -ETIMEDOUT };
	enum reason reason;

	w.end_ns = bpf_ktime_get_boot_ns();
	w.start_ns = turn->asked_ns;
	turn->asked_ns = 0;
	if (since(w.start_ns, w.end_ns) < GIVE_UP_NS || w.start_ns < waits_since_ns || (!turn->answered && turn->asks > MONOLOGUE))
		return;
	if (turn->stint == stint_here() || turn->reading) /* or a call has waited in vain, as far as probes tell */
		return;
	w.sk = known ? address_of(sk) : (__u64)sk;
	if (!is_of_interest(&w, &reason))
		return;
	recall_question(&w, turn, sk, known);
	report_wait(&w, reason);
}

/*
 * A connection on which an answer is outstanding begins to close. Unless it is the program that
 * closes it, this is the answer.
 */
static __always_inline void end_question(struct sock *sk, struct turn *turn, int state, __u32 position)
{
	if (sk->sk_shutdown == SHUTDOWN_MASK && state != STATE_CLOSE_WAIT && !sk->sk_err && !is_interrupt(position))
		give_up(sk, turn, true);
	else if (state != STATE_FIN_WAIT1)
		turn->ready_ns = bpf_ktime_get_boot_ns();
}

/*
 * Whether a socket that ends was closed by the program. After it has only said that it sends no more, it may still read what
 * has come.
 */
static __always_inline bool is_closed(struct sock *sk, int from)
{
	return sk->sk_shutdown == SHUTDOWN_MASK && (!sk->sk_socket || from == STATE_ESTABLISHED || from == STATE_CLOSE_WAIT);
}

static __always_inline void end_turn(struct sock *sk, int from, int state, __u32 position)
{
	struct turn *turn = place_of_turn(sk);

	if (turn->sk != (__u64)sk)
		return;
	turn->course = COURSE_OPEN;
	if (turn->asked_ns && !turn->ready_ns && !turn->serves)
		end_question(sk, turn, state, position);
	if (state != STATE_CLOSE)
		return;
	if (is_closed(sk, from))
		WRITE_ONCE(turn->sk, 0);
	else
		/* The socket has lost its ports, and the program has not noticed that yet. */
		turn->ports = sk->__sk_common.skc_portpair;
}

/* A connection changes its state. */
static __always_inline void follow_state(struct sock *sk, int from, int to, __u32 position)
{
	if (to == STATE_SYN_SENT || from == STATE_SYN_RECV)
		forget_failed_connect(sk); /* of an earlier socket at this address */
	if (to == STATE_SYN_SENT) {
		if (!is_interrupt(position))
			begin_connect(sk);
	} else if (from == STATE_SYN_SENT || (from == STATE_SYN_RECV && !sk->sk_max_ack_backlog)) { /* both ends may connect */
		if (to == STATE_ESTABLISHED || to == STATE_CLOSE)
			end_connect(sk, to, position);
	} else if (from == STATE_ESTABLISHED || from == STATE_CLOSE_WAIT || to == STATE_CLOSE) {
		end_turn(sk, from, to, position);
		if (from == STATE_ESTABLISHED && to == STATE_CLOSE && sk->sk_err == ECONNRESET)
			end_unused(sk);
	}
}

/*
 * There is something to read on a socket, which is examined in full. This is a function of its own, as
 * are the next ones of this kind, so that a program that leaves early saves no registers.
 */
static __noinline int examine_ready(struct sock *sk, bool known)
{
	struct turn *turn;

	turn = turn_of(sk, known);
	if (!turn) {
		if (!has_turns(sk, known) || FIELD_OF(sk, __sk_common.skc_state) == STATE_LISTEN || !is_asked(sk, known))
			return 0;
		turn = make_turn(sk, true, known);
		if (!turn)
			return 0;
	}
	if (turn->reading)
		turn->reading = turn->asked_ns = 0;
	else if (!turn->ready_ns && !is_settled(turn))
		turn->ready_ns = bpf_ktime_get_boot_ns();
	turn->course = COURSE_OPEN;
	return 0;
}

/* There is something to read on a socket. */
static __always_inline void note_ready(struct sock *sk, bool known)
{
	const struct turn *turn = place_of_turn(sk);

	if (!belongs_to(turn, sk, known) || turn->course != COURSE_SETTLED)
		examine_ready(sk, known);
}

/* Whether a result ends the wait for an answer. Other errors concern only the call that reads. */
static __always_inline bool is_answer(int result)
{
	return result >= 0 || result == -EPIPE || (-result >= ENETDOWN && -result <= EHOSTUNREACH);
}

/*
 * When the running thread, in a call that began at call_ns, read what the wait was for; 0 if it
 * waited in this very call, which is reported as a call.
 */
static __always_inline __u64 read_at(const struct ended *w, __u64 call_ns, int flags)
{
	bool came_later = call_ns < w->ready_ns || call_ns < w->start_ns;

	if (!came_later && w->ready_ns)
		return call_ns;
	if (!(flags & MSG_DONTWAIT))
		return 0;
	return came_later ? bpf_ktime_get_boot_ns() : call_ns;
}

/*
 * Finds the context of a wait that ends in the running thread's call, which began at call_ns. This is
 * a global function, which is verified once. It does not report the wait as well: before Linux 6.13
 * all functions that are called inside of each other share 512 bytes of stack.
 */
__noinline int note_end(struct ended *w, struct turn *turn, __u64 call_ns)
{
	if (w && turn)
		context_at(&w->context, call_ns, w->end_ns, &turn->silent_ns);
	return 0;
}

/* Counts the reads in blocking mode before which no data lay there. */
static __always_inline void settle(struct turn *turn, int flags)
{
	if (flags & MSG_DONTWAIT)
		turn->blocks = 0;
	else
		turn->blocks++;
}

/* A program has read, or its read has failed, on a socket that is not settled. */
static __always_inline void end_reading(struct sock *sk, struct turn *turn, int result, int flags, bool known)
{
	struct ended w = { .wait = SOCKET_WAIT_RECEIVE };
	enum reason reason;
	__u64 call_ns;

	w.ready_ns = turn->ready_ns;
	w.start_ns = turn->serves ? w.ready_ns : turn->asked_ns;
	turn->ready_ns = turn->asked_ns = 0;
	turn->asks = 0;
	turn->answered = 1;
	if (w.start_ns <= waits_since_ns || (turn->serves && result <= 0))
		return;
	call_ns = call_began();
	w.end_ns = call_ns ? read_at(&w, call_ns, flags) : 0;
	if (!w.end_ns)
		return;
	if (result < 0)
		w.result = result;
	if (with_durations && w.ready_ns)
		count_durations(known ? address_of(sk) : (__u64)sk, turn->serves, turn->serves ? 0 : since(w.start_ns, w.ready_ns), since(w.ready_ns, w.end_ns));
	if (!is_of_interest(&w, &reason))
		return;
	if (reason == REASON_SLOW || reason == REASON_FAILED)
		turn->blocks = 0;
	w.sk = known ? address_of(sk) : (__u64)sk;
	if (turn->serves) {
		note_end(&w, turn, call_ns);
	} else {
		recall_question(&w, turn, sk, known);
		w.flags = w.ready_ns ? WAIT_HAS_PEER : 0;
	}
	if (reason == REASON_FAILED)
		note_told(call_ns);
	report_wait(&w, reason);
}

/*
 * A program's read has found nothing. If it has waited for so long that it is reported as a call (SO_RCVTIMEO), what comes
 * after that is another wait.
 */
static __always_inline void note_nothing_read(struct turn *turn, int result, int flags)
{
	__u64 now, call_ns;

	turn->stint = 0; /* it looks for an answer */
	if (result != -EAGAIN || flags & MSG_DONTWAIT || !turn->asked_ns)
		return;
	now = bpf_ktime_get_boot_ns();
	call_ns = call_began();
	if (call_ns && since(call_ns, now) >= min_duration_ns)
		turn->asked_ns = now;
}

/* A program has read, or its read has failed, which is examined in full. */
static __noinline int examine_read(struct sock *sk, int result, int flags, bool known)
{
	struct turn *turn = turn_of(sk, known);
	bool settled;

	if (!turn || flags & MSG_ERRQUEUE)
		return 0;
	if (!is_answer(result)) {
		note_nothing_read(turn, result, flags);
		return 0;
	}
	settled = is_settled(turn);
	settle(turn, flags);
	if (settled && !turn->blocks) /* the counter has wrapped around */
		turn->blocks = SETTLED - 1;
	if (!settled)
		end_reading(sk, turn, result, flags, known);
	set_course(turn);
	return 0;
}

/* A program has read, or its read has failed. */
static __always_inline void note_read(struct sock *sk, int result, int flags, bool known)
{
	struct turn *turn = place_of_turn(sk);

	if (result >= 0 && !(flags & (MSG_DONTWAIT | MSG_ERRQUEUE)) && belongs_to(turn, sk, known) &&
	    turn->course == COURSE_SETTLED && turn->blocks != 0xff)
		turn->blocks++;
	else
		examine_read(sk, result, flags, known);
}

/*
 * A program begins to read, and no hook will tell what it finds. If there is something to read it
 * finds that. Otherwise it waits in this call, or returns at once if it is not to wait.
 */
static __always_inline void note_reading(struct sock *sk, int flags)
{
	struct turn *turn = turn_of(sk, false);

	if (!turn)
		return;
	turn->reading = 0;
	if (turn->ready_ns || is_settled(turn))
		note_read(sk, 1, flags, false);
	else if (!(flags & MSG_DONTWAIT))
		turn->reading = 1;
	turn->stint = 0; /* it looks for an answer */
	set_course(turn);
}

/* Finds the context of what the program asks. This is a global function, which is verified once. */
__noinline int note_question(struct turn *turn, __u64 call_ns)
{
	if (!turn)
		return 0;
	context_at(&turn->context, call_ns, call_ns, &turn->silent_ns);
	turn->found = turn->found || turn->context.source;
	return 0;
}

/*
 * Whether looking for the context of what the program asks may succeed. A socket has a cookie once
 * a context was found in one of its messages.
 */
static __always_inline bool may_have_context(struct sock *sk, const struct turn *turn, __u64 call_ns, bool known)
{
	return turn->found || call_ns - turn->silent_ns >= REST_NS || cookie_of_contexts(sk, turn, known);
}

/* A program can send again after it had found no room. */
static __always_inline void end_full(struct sock *sk, struct turn *turn, __u64 call_ns, bool known)
{
	struct ended w = { .wait = SOCKET_WAIT_SEND, .start_ns = turn->full_ns, .end_ns = call_ns };
	enum reason reason;

	turn->full_ns = 0;
	if (w.start_ns <= waits_since_ns || !is_of_interest(&w, &reason))
		return;
	w.sk = known ? address_of(sk) : (__u64)sk;
	note_end(&w, turn, w.end_ns);
	report_wait(&w, reason);
}

/* A program has sent in a call that began at call_ns, or has found no room. */
static __always_inline void follow_sent(struct sock *sk, struct turn *turn, int result, __u64 call_ns, bool known)
{
	if (result < 0) {
		if (!turn->full_ns)
			turn->full_ns = bpf_ktime_get_boot_ns(); /* until now the call itself may have waited */
		return;
	}
	if (turn->full_ns)
		end_full(sk, turn, call_ns, known);
	if (turn->serves || (turn->asked_ns && turn->ready_ns))
		return;
	if (turn->ready_ns < call_ns)
		turn->ready_ns = 0; /* it was there before the program asked */
	if (turn->asks <= MONOLOGUE)
		turn->asks++;
	if (may_have_context(sk, turn, call_ns, known))
		note_question(turn, call_ns);
	else
		turn->context.source = CONTEXT_NONE;
	note_asking(sk, turn, call_ns, known);
}

/* A program has sent, or has found no room, which is examined in full. */
static __noinline int examine_sent(struct sock *sk, int result, bool known)
{
	struct turn *turn;
	__u64 call_ns;

	if (result < 0 && result != -EAGAIN)
		return 0;
	turn = turn_of(sk, known);
	if (!turn) {
		bool asks = has_turns(sk, known) && is_asking(sk);

		if ((result >= 0 && !asks) || !has_turns(sk, known) || FIELD_OF(sk, __sk_common.skc_state) == STATE_SYN_SENT)
			return 0;
		turn = make_turn(sk, !asks, known);
		if (!turn)
			return 0;
		if (known && asks && turn->kind == SOCKET_TCP && sk->sk_bpf_storage)
			bpf_sk_storage_delete(&connects, sk); /* see end_unused */
		/* A peer that is quick has answered before the program's first call to send returns. */
		if (asks && FIELD_OF(sk, sk_receive_queue.qlen))
			turn->ready_ns = bpf_ktime_get_boot_ns();
	}
	if (result >= 0 && (turn->serves || is_settled(turn)) && !turn->full_ns)
		return 0;
	call_ns = call_began();
	if (call_ns)
		follow_sent(sk, turn, result, call_ns, known);
	set_course(turn);
	return 0;
}

/* Notes when a program that only sends last did; false if more has to be done. */
static __always_inline bool note_monologue(struct sock *sk, struct turn *turn, bool known)
{
	const struct thread *th;

	if (cookie_of_contexts(sk, turn, known)) /* see may_have_context */
		return false;
	th = place_here();
	if (th->task != (__u64)current_task() || th->progress != CALL_PLAIN || th->start_ns - turn->silent_ns >= REST_NS)
		return false;
	note_asking(sk, turn, th->start_ns, known);
	return true;
}

/* A program has sent, or has found no room. */
static __always_inline void note_sent(struct sock *sk, int result, bool known)
{
	struct turn *turn = place_of_turn(sk);

	if (result >= 0 && belongs_to(turn, sk, known)) {
		if (turn->course == COURSE_SETTLED)
			return;
		if (turn->course == COURSE_MONOLOGUE && note_monologue(sk, turn, known))
			return;
	}
	examine_sent(sk, result, known);
}

/*
 * A datagram socket is closed. If a question to a name server is open, either an error has come that the program knows of by
 * poll, or it has given up. Of other servers it is not known that they answer.
 */
static __always_inline void end_datagrams(struct sock *sk, struct turn *turn, bool known)
{
	struct ended w = { .wait = SOCKET_WAIT_RECEIVE };
	enum reason reason;
	__u32 error;

	WRITE_ONCE(turn->sk, 0);
	w.start_ns = turn->asked_ns;
	if (turn->serves || turn->ready_ns || w.start_ns <= waits_since_ns)
		return;
	if (FIELD_OF(sk, __sk_common.skc_dport) != bpf_htons(PORT_OF_NAMES))
		return;
	w.end_ns = bpf_ktime_get_boot_ns();
	error = FIELD_OF(sk, sk_err);
	if (!error) {
		if (since(w.start_ns, w.end_ns) < GIVE_UP_NS)
			return;
		w.flags = WAIT_GIVEN_UP;
		error = ETIMEDOUT;
	}
	w.result = -(__s64)error;
	if (!is_of_interest(&w, &reason))
		return;
	w.context = turn->context;
	w.sk = known ? address_of(sk) : (__u64)sk;
	report_wait(&w, reason);
}

/*
 * A program closes a socket, which is examined in full. The state of a connection tells of that, too, unless the program has
 * said before that it sends no more.
 */
static __noinline int examine_closed(struct sock *sk, bool known)
{
	struct turn *turn = turn_of(sk, known);
	__u8 state;

	if (!turn)
		return 0;
	if (turn->kind == SOCKET_UDP) {
		end_datagrams(sk, turn, known);
		return 0;
	}
	state = FIELD_OF(sk, __sk_common.skc_state);
	if (turn->kind == SOCKET_TCP && (state == STATE_FIN_WAIT1 || state == STATE_FIN_WAIT2) && turn->asked_ns && !turn->ready_ns && !turn->serves)
		give_up(sk, turn, known);
	return 0;
}

/* A program closes a socket. */
static __always_inline void note_closed(struct sock *sk, bool known)
{
	if (place_of_turn(sk)->sk == (__u64)sk)
		examine_closed(sk, known);
}
