/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * tracecontext - which span of the application each message belongs to.
 *
 * Hooks:   tp_btf sock_send_length     a process has sent on a socket
 *          tp_btf sock_recv_length     a process has received from a socket
 *            before Linux 6.3: fexit tcp_sendmsg, tcp_recvmsg
 *          tp_btf sched_process_exec   a process runs another program, of which nothing is
 *                                      known yet
 *          tp_btf sched_process_fork   a process begins, with the memory of its parent
 *          iter task                   the processes that exist, at start
 * Output:  map messages, the context of the last message that a thread moved; map
 *          exchanges, the last context on each connection; map firsts, the first context
 *          on each connection that was accepted; ring questions, the processes that user
 *          space is to examine.
 * Rule:    The head of the message itself takes precedence over what its thread publishes,
 *          and that over the socket. A context of another process is never used, and
 *          none is kept from one request on a connection to the next.
 * Loss:    What is not found is counted by cause: enum context_count.
 * Needs:   BTF, Linux 5.17 for messages; 5.10 for what threads publish.
 */
#include "lib/kernel/address.h"
#include "lib/context/ask.h"
#include "lib/context/http.h"
#include "lib/context/socket.h"
#include "lib/program/selftest.h"

__u32 own_pid;                              /* the Collector's */
bool obi_is_there;                          /* set while there is OBI's map */
const volatile bool with_filter;            /* the configuration lets only some processes be read */
const volatile bool inbound_is_parent;      /* the context in a request that came in is taken for the parent */
/* an instrument waits for the first context of accepted connections */
const volatile bool with_firsts;

/* The ends of a connection. */
struct connection {
	__u8 local_address[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 peer_address[16];
	__u32 netns_inode;
	__u16 local_port; /* host byte order */
	__u16 peer_port;
};

/* The first context on a connection that was accepted. */
struct first_context {
	struct context context;
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 cookie;  /* of the socket, as a later connection can have the same ends */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct connection);
	__type(value, struct first_context);
} firsts SEC(".maps");

/*
 * What protocol a socket is used for, and whether its process has a context to publish. Both are
 * examined again now and then: see is_quiet.
 */
struct spoken {
	__u32 generation; /* the generation in which the process had no context; 0: it may have one */
	__u32 pid;
	__u32 exec_id;
	__u16 messages; /* modulo 2^16 */
	__u16 http;     /* one of them began as HTTP does */
};

#define SETTLED 8 /* after so many messages without HTTP, the protocol is taken to be another one */
#define AGAIN 63  /* one of 64 messages is examined nevertheless */

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct spoken);
} spokens SEC(".maps");

__u32 generation = 1; /* changes whenever user space learns something about a process */

/* Whether the running process was found to have no context. */
static __always_inline bool is_silent(const struct spoken *s, struct task_struct *task)
{
	return s->generation == generation && s->pid == task->tgid && s->exec_id == (__u32)task->self_exec_id;
}

/* Whether nothing is to be searched for in a message. */
static __always_inline bool is_quiet(struct spoken *s, struct task_struct *task)
{
	return !s->http && s->messages > SETTLED && ++s->messages & AGAIN && is_silent(s, task);
}

static __always_inline void note_spoken(struct spoken *s, struct task_struct *task, const struct observed *process,
					enum beginning beginning)
{
	if (beginning != BEGINNING_OTHER)
		s->http = 1;
	s->messages++;
	if (!process)
		return;
	s->pid = task->tgid;
	s->exec_id = task->self_exec_id;
	s->generation = obi_is_there || process->ask || may_publish(process) ? 0 : generation;
}

/* The part of a message that is in the first of its buffers. */
struct buffer {
	__u64 address;
	__u64 bytes;
};

static __always_inline bool read_buffer(struct buffer *buffer, __u64 iovec)
{
	return iovec && !bpf_probe_read_user(buffer, sizeof(*buffer), (void *)iovec);
}

#define MSG_IOV 16 /* offset in the struct msghdr of a 64-bit process */

static __always_inline bool find_buffer(struct buffer *buffer)
{
	struct pt_regs *regs = user_registers();
	__u64 second = second_of(regs);

	if (is_32bit_call())
		return false;
	switch (syscall_of(regs)) {
	case NR(0, 63):   /* read */
	case NR(1, 64):   /* write */
	case NR(44, 206): /* sendto */
	case NR(45, 207): /* recvfrom */
		buffer->address = second;
		buffer->bytes = third_of(regs);
		return true;
	case NR(19, 65): /* readv */
	case NR(20, 66): /* writev */
		return read_buffer(buffer, second);
	case NR(46, 211): /* sendmsg */
	case NR(47, 212): /* recvmsg */
		if (bpf_probe_read_user(&second, sizeof(second), (void *)(second + MSG_IOV)))
			return false;
		return read_buffer(buffer, second);
	}
	return false;
}

/* Examines what the message begins with, and searches its head for a context. */
static __always_inline enum beginning read_message(struct context *c, int bytes, enum head_reader direction)
{
	enum beginning beginning;
	struct buffer buffer;
	__u64 first;

	if (bytes < sizeof(first) || !find_buffer(&buffer))
		return BEGINNING_OTHER;
	if (buffer.bytes > bytes)
		buffer.bytes = bytes;
	if (buffer.bytes < sizeof(first))
		return BEGINNING_OTHER;
	if (bpf_probe_read_user(&first, sizeof(first), (void *)buffer.address)) {
		count_context(REFUSED_UNREADABLE);
		return BEGINNING_OTHER;
	}
	beginning = beginning_of(first);
	if ((beginning == BEGINNING_REQUEST || beginning == BEGINNING_RESPONSE) &&
	    http_context(c, direction, buffer.address, buffer.bytes))
		c->link = direction == READER_RECEIVE ? !inbound_is_parent : outbound_is_link;
	return beginning;
}

/*
 * Whether a connection was accepted: its socket then has inherited the limit of the listener's
 * accept queue, and one that connected has no limit.
 */
static __always_inline bool is_accepted(struct sock *sk)
{
	return sk->sk_max_ack_backlog;
}

static __always_inline bool is_connection(struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	return (family == AF_INET || family == AF_INET6) &&
	       (sk->sk_protocol == IPPROTO_TCP || sk->sk_protocol == IPPROTO_MPTCP);
}

static __always_inline void note_first(struct sock *sk, const struct context *c, __u64 cookie, __u64 now)
{
	struct first_context *known, new = {.context = *c, .time_ns = now, .cookie = cookie};
	struct connection connection = {};

	note_addresses(connection.local_address, connection.peer_address, sk, true);
	connection.netns_inode = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	connection.local_port = local_port_of(sk);
	connection.peer_port = peer_port_of(sk);
	known = bpf_map_lookup_elem(&firsts, &connection);
	if (!known || known->cookie != cookie)
		bpf_map_update_elem(&firsts, &connection, &new, BPF_ANY);
}

/* Remembers the context of a message that has its own. */
static __always_inline void remember(struct sock *sk, const struct context *c, struct exchange *known, __u64 cookie,
				     enum head_reader direction, enum beginning beginning)
{
	struct exchange new = {
		.context = *c,
		.check = check_of(c),
		.time_ns = bpf_ktime_get_boot_ns(),
		.start_ns = this_start(),
		.pid = THIS_TASK(tgid),
		.direction = direction,
		.multiplexed = beginning == BEGINNING_MULTIPLEXED,
	};

	if (known && known->multiplexed)
		return;
	bpf_map_update_elem(&exchanges, &cookie, &new, BPF_ANY);
	if (with_firsts && c->source && is_accepted(sk))
		note_first(sk, c, cookie, new.time_ns);
}

/* Whether a message begins another exchange than the one before it belonged to. */
static __always_inline bool begins_exchange(struct sock *sk, const struct exchange *e, enum head_reader direction,
					    enum beginning beginning)
{
	if (beginning == BEGINNING_REQUEST)
		return true;
	return direction != e->direction && direction == (is_accepted(sk) ? READER_RECEIVE : READER_SEND);
}

/* The context of the exchange that a message without one belongs to. */
static __always_inline void follow(struct sock *sk, struct context *c, struct exchange *e, __u64 cookie,
				   enum head_reader direction, enum beginning beginning)
{
	if (e->multiplexed)
		return;
	if (!is_own_exchange(e)) {
		count_context(REFUSED_FOREIGN);
		return;
	}
	if (begins_exchange(sk, e, direction, beginning)) {
		bpf_map_delete_elem(&exchanges, &cookie);
		return;
	}
	e->direction = direction;
	recall(c, e, bpf_ktime_get_boot_ns());
}

static __always_inline void see_exchange(struct sock *sk, struct context *c, enum head_reader direction,
					 enum beginning beginning)
{
	struct exchange *known;
	__u64 cookie;

	if (!c->source && beginning != BEGINNING_MULTIPLEXED && !sk->__sk_common.skc_cookie.counter)
		return; /* nothing was remembered for this socket, or it would have a cookie */
	cookie = bpf_get_socket_cookie(sk);
	known = bpf_map_lookup_elem(&exchanges, &cookie);
	if (c->source || beginning == BEGINNING_MULTIPLEXED)
		remember(sk, c, known, cookie, direction, beginning);
	else if (known)
		follow(sk, c, known, cookie, direction, beginning);
}

/* Leaves the context for the instruments that observe the thread's call. */
static __always_inline void tell(const struct context *c)
{
	struct message_context *message;

	message = bpf_task_storage_get(&messages, current_task(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!message)
		return;
	message->context = *c;
	message->time_ns = bpf_ktime_get_boot_ns();
}

/*
 * Looks for the context of a message. This is a function of its own, so that its stack is no part of
 * the programs' when they leave early, as for all datagrams.
 */
static __noinline int examine_message(struct sock *sk, struct spoken *spoken, int bytes, enum head_reader direction)
{
	struct task_struct *task = current_task();
	enum beginning beginning = BEGINNING_OTHER;
	struct observed *process = NULL;
	struct context c = {};

	if (with_filter || !is_silent(spoken, task) || !(spoken->messages & AGAIN)) {
		process = observed_process();
		if (!process || process->ask)
			ask(task, process);
		if (with_filter && !(process && process->flags & OBSERVED_WANTED))
			return 0;
	}
	if (with_http)
		beginning = read_message(&c, bytes, direction);
	if (!c.source && (process || obi_is_there) && !thread_context(&c, process))
		__builtin_memset(&c, 0, sizeof(c));
	note_spoken(spoken, task, process, beginning);
	if (with_socket && is_connection(sk))
		see_exchange(sk, &c, direction, beginning);
	if (!c.source)
		return 0;
	count_context((enum context_count)c.source);
	if (c.source == CONTEXT_HTTP || c.source == CONTEXT_SOCKET)
		tell(&c);
	return 0;
}

/* The running process has moved bytes on a stream. This is a function of its own for the same reason. */
static __noinline int see_stream(struct sock *sk, int bytes, enum head_reader direction)
{
	struct task_struct *task = current_task();
	struct spoken *spoken;

	if (task->flags & (PF_KTHREAD | PF_IO_WORKER) || task->tgid == own_pid)
		return 0;
	spoken = bpf_sk_storage_get(&spokens, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (spoken && !is_quiet(spoken, task))
		examine_message(sk, spoken, bytes, direction);
	return 0;
}

/* The running process has moved bytes on sk. */
static __always_inline void see_message(struct sock *sk, int bytes, enum head_reader direction)
{
	if (bytes > 0 && sk->sk_type == SOCK_STREAM)
		see_stream(sk, bytes, direction);
}

/*
 * A slot for the program of an instrument at the same tracepoint, which runs when this one is done. So
 * the kernel reaches both at the cost of one. Go: Contexts.Slots.
 */
struct slot {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
};

struct slot after_send SEC(".maps");
struct slot after_receive SEC(".maps");

bool fired_see_send;

SEC("tp_btf/sock_send_length")
int BPF_PROG(see_send, struct sock *sk, int sent, int flags)
{
	if (is_enabled(&fired_see_send))
		see_message(sk, sent, READER_SEND);
	bpf_tail_call(ctx, &after_send, 0);
	return 0;
}

bool fired_see_receive;

SEC("tp_btf/sock_recv_length")
int BPF_PROG(see_receive, struct sock *sk, int received, int flags)
{
	if (is_enabled(&fired_see_receive))
		see_message(sk, received, READER_RECEIVE);
	bpf_tail_call(ctx, &after_receive, 0);
	return 0;
}

bool fired_see_sendmsg;

SEC("fexit/tcp_sendmsg")
int see_sendmsg(__u64 *ctx)
{
	__u64 sent = 0;

	if (!is_enabled(&fired_see_sendmsg))
		return 0;
	bpf_get_func_ret(ctx, &sent);
	see_message((struct sock *)ctx[0], sent, READER_SEND);
	return 0;
}

bool fired_see_recvmsg;

SEC("fexit/tcp_recvmsg")
int see_recvmsg(__u64 *ctx)
{
	__u64 received = 0;

	if (!is_enabled(&fired_see_recvmsg))
		return 0;
	bpf_get_func_ret(ctx, &received);
	see_message((struct sock *)ctx[0], received, READER_RECEIVE);
	return 0;
}

bool fired_see_exec;

/* The process is another program now, and what is known is about the one before. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(see_exec, struct task_struct *task)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (!is_enabled(&fired_see_exec))
		return 0;
	if (with_obi) /* the context of what it did before, or of the first thread, whose id it may have got */
		note_leftover(bpf_get_current_pid_tgid());
	bpf_map_delete_elem(&observed, &pid);
	return 0;
}

bool fired_see_fork;

/*
 * A child may publish its contexts in the same place as its parent. Other children are asked about
 * when they are met.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(see_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 pid = BPF_CORE_READ(child, tgid), thread = BPF_CORE_READ(child, pid);
	struct observed *known, new;

	if (!is_enabled(&fired_see_fork))
		return 0;
	if (with_obi)
		note_leftover((__u64)pid << 32 | thread);
	if (pid != thread)
		return 0;
	known = observed_process();
	if (!known || !(with_filter || known->flags & (OBSERVED_THREAD_SLOT | OBSERVED_GO)))
		return 0;
	new = *known;
	new.start_ns = BPF_CORE_READ(child, start_boottime);
	new.ask = 1;
	bpf_map_update_elem(&observed, &pid, &new, BPF_ANY);
	return 0;
}

SEC("iter/task")
int ask_about_all(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct observed *known;
	__u32 pid;

	if (!task || task->flags & PF_KTHREAD || task->pid != task->tgid)
		return 0;
	pid = task->tgid;
	known = bpf_map_lookup_elem(&observed, &pid);
	if (!known)
		ask(task, NULL);
	return 0;
}

/* The map that OBI has pinned, whether it is used or not. */
struct obi_place obi_pinned SEC(".maps");

__s64 obi_map_holders; /* references to the map: its pin, our slots, OBI and its programs */

/* Run by user space. */
SEC("raw_tp/run")
int count_holders(void *ctx)
{
	__u32 zero = 0;
	struct bpf_map *map = bpf_map_lookup_elem(&obi_pinned, &zero);

	obi_map_holders = map ? map->refcnt.counter : 0;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
