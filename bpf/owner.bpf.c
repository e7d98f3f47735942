/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * owner - which process each socket belongs to.
 *
 * Hooks:   tp_btf sock_send_length     a process sent on a socket
 *          tp_btf sock_recv_length     a process received from a socket
 *            before Linux 6.3: fentry security_socket_sendmsg, tcp_push, fexit sock_recvmsg
 *            if functions cannot be traced: kprobes on security_socket_sendmsg, _recvmsg,
 *            tcp_push, skb_consume_udp, skb_free_datagram, tp_btf tcp_rcv_space_adjust
 *          tp_btf tcp_sendmsg_locked   a process sends on TCP, and has not returned yet;
 *            before Linux 6.16: net_dev_queue
 *          tp_btf net_dev_queue        a process sends a datagram on a socket that several use in
 *                                      turn: attached when there is one
 *            before Linux 6.3: fexit inet_sendmsg, inet6_sendmsg, or if functions cannot be
 *            traced tp_btf sys_exit: a call on such a socket has failed
 *          tp_btf inet_sock_set_state  a process connects or listens; a connection is
 *                                      established for a listener
 *          tp_btf sched_process_exit   a process that listened has ended
 *          cgroup/sock_create          a process made an IP socket
 *          cgroup/sock_release         a process closed an IP socket
 *          tp_btf tcp_destroy_sock     a TCP socket's last packet is gone
 *          iter task_file              sockets older than nettap, at start; the sockets of a
 *                                      process that has executed a program or changed its
 *                                      user since
 *          iter task, or a run (6.7)   which processes are alive, at each collection
 *          iter bpf_sk_storage_map     sockets that no process uses, at each collection
 *            where the kernel refuses it, a run
 * Output:  socket storage owners; map processes, one entry for each process that has used
 *          a socket, or made one that others sent to; map listeners; map last_listeners,
 *          which process last had a port.
 * Rule:    The owner is the process that last sent or received. It is never a kernel thread,
 *          and never a thread that a softirq interrupted: these hooks run in the process's
 *          own context.
 * Loss:    a process that finds the map full is BEYOND; a socket that gets no
 *          storage is unowned.
 * Needs:   BTF, Linux 5.12 (atomic exchange).
 */
#include "lib/kernel/interrupt.h"
#include "lib/owner/attempts.h"
#include "lib/owner/changes.h"
#include "lib/owner/pending.h"
#include "lib/owner/ports.h"
#include "lib/owner/storage.h"
#include "lib/owner/uses.h"
#include "lib/program/place.h"
#include "lib/program/selftest.h"
#include "lib/kernel/registers.h"
#include "lib/kernel/tasks.h"

/*
 * After this time without a use of the socket, what waits with it is credited to the process that
 * made it.
 */
const volatile __u64 patience_ns = 3000000000ULL;

/*
 * Set when a process that listened has ended. User space then finds out which process has its
 * listeners.
 */
bool orphaned;

/*
 * Set when several processes use a socket in turn. User space then attaches the program that sees
 * which of them sends, or the one that sees whose call fails.
 */
bool shared_socket;

#define SHARED 3 /* a daemon that forks or changes its user gives its socket to another process once or twice */

/*
 * User space sets this if hooks tell of calls when they begin. What they tell of the calls that
 * succeed alone does not matter here.
 */
const volatile bool learns_early;

/*
 * The instances of processes that have executed a program or changed their user, by the number that
 * they had before. User space fills the map.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct instance);
} former SEC(".maps");

static __always_inline bool is_counted_family(__u16 family)
{
	return family == AF_INET || family == AF_INET6 || family == AF_PACKET;
}

static __always_inline bool is_counted(struct sock *sk)
{
	return is_counted_family(sk->__sk_common.skc_family);
}

/*
 * Whether it was already found in this round that there is no room for the process, so that its
 * number is BEYOND.
 */
static __always_inline bool is_known_beyond(__u64 number, __u32 tried, __u32 mark)
{
	return number == number_beyond(mark) && tried == (__u32)current_round();
}

/* Whether another hook helps to know the owner of a socket that several processes use in turn. */
static __always_inline bool needs_help(struct sock *sk)
{
	return sk->sk_type == SOCK_DGRAM || sk->sk_type == SOCK_RAW || (learns_early && !is_pushed(sk));
}

/* A socket that a process used goes to another one. */
static __always_inline void count_turn(struct sock *sk, struct owner *owner)
{
	if (owner->turns == SHARED || !needs_help(sk))
		return;
	owner->turns++;
	if (owner->turns == SHARED)
		shared_socket = true;
}

/* Makes the running process the owner of sk. */
static __always_inline void take_over(struct sock *sk, struct owner *owner, const struct process *process)
{
	struct instance who = instance_of(process);
	__u64 number;

	if (is_known_beyond(owner->number, owner->tried, mark_of(process)))
		return;
	if (owner->listener && owner->listener == (__u64)sk)
		return; /* no process sends or receives on a listener */
	number = number_of(process, current_task());
	if (is_beyond(number))
		owner->tried = current_round();
	if (!is_used(owner->number))
		owner->subflow = is_mptcp(sk);
	else
		count_turn(sk, owner);
	if (hand_over(owner, number, &who) && settle(sk, number))
		forget_pending(sk);
}

/* The storage of a socket that the running thread may use. */
static __always_inline struct owner *owner_to_learn(struct sock *sk)
{
	if (!is_counted(sk) || current_task()->flags & PF_KTHREAD || is_kernel_socket(sk))
		return NULL;
	return bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

/* The same if the running process, which it sets, is not the owner yet. */
static __always_inline struct owner *owner_to_change(struct sock *sk, struct process *process)
{
	struct owner *owner = owner_to_learn(sk);

	if (!owner)
		return NULL;
	*process = current_process();
	return (__u32)owner->number != mark_of(process) ? owner : NULL;
}

/* The running process becomes the owner of a socket that it has used. */
static __always_inline void make_owner(struct sock *sk)
{
	struct process process;
	struct owner *owner = owner_to_change(sk, &process);

	if (owner)
		take_over(sk, owner, &process);
}

/* The same for programs that mostly need not do it, and whose stack would be larger with it. */
static __noinline int learn_user(struct sock *sk)
{
	make_owner(sk);
	return 0;
}

/* The running process has used the socket. */
static __always_inline void learn(struct sock *sk)
{
	if (!is_known_user(sk))
		learn_user(sk);
}

bool fired_learn_from_send;

SEC("tp_btf/sock_send_length")
int BPF_PROG(learn_from_send, struct sock *sk, int sent, int flags)
{
	if (sent >= 0 && is_enabled(&fired_learn_from_send))
		learn(sk);
	return 0;
}

/* The same as the first one of a place, as is the next one of this kind. */
struct place at_send SEC(".maps");
bool fired_learn_from_send_first;

SEC("tp_btf/sock_send_length")
int BPF_PROG(learn_from_send_first, struct sock *sk, int sent, int flags)
{
	if (sent >= 0 && is_enabled(&fired_learn_from_send_first))
		learn(sk);
	LEAVE_TO_SECOND(ctx, at_send);
}

bool fired_learn_from_receive;

SEC("tp_btf/sock_recv_length")
int BPF_PROG(learn_from_receive, struct sock *sk, int received, int flags)
{
	if (received >= 0 && is_enabled(&fired_learn_from_receive))
		learn(sk);
	return 0;
}

struct place at_receive SEC(".maps");
bool fired_learn_from_receive_first;

SEC("tp_btf/sock_recv_length")
int BPF_PROG(learn_from_receive_first, struct sock *sk, int received, int flags)
{
	if (received >= 0 && is_enabled(&fired_learn_from_receive_first))
		learn(sk);
	LEAVE_TO_SECOND(ctx, at_receive);
}

/* Whether a program runs when a call to send on the socket has ended. */
static __always_inline bool sees_end(struct sock *sk)
{
	return sees_failures && sk->__sk_common.skc_family != AF_PACKET;
}

/* The running process, which is not the owner, begins to send. */
static __always_inline void take_over_early(struct sock *sk, struct owner *owner, const struct process *process)
{
	struct attempt attempt = { .sk = (__u64)sk, .before.number = owner->number };

	if (sees_end(sk) && !is_used(attempt.before.number) && begin(&attempt))
		return;
	take_over(sk, owner, process);
	attempt.number = owner->number;
	if (sees_end(sk))
		begin(&attempt);
}

/*
 * The running process begins to send on the socket. It becomes the owner now, before its packets
 * leave, and if its call fails the socket goes back. A socket that had no user keeps what waits
 * with it until the call has succeeded.
 */
static __always_inline void learn_early(struct sock *sk)
{
	struct process process;
	struct owner *owner;

	if (is_known_user(sk))
		return;
	owner = owner_to_change(sk, &process);
	if (owner)
		take_over_early(sk, owner, &process);
}

bool fired_learn_from_sendmsg;

SEC("fentry/security_socket_sendmsg")
int BPF_PROG(learn_from_sendmsg, struct socket *sock, struct msghdr *msg, int size)
{
	if (!is_enabled(&fired_learn_from_sendmsg))
		return 0;
	if (sock->sk && !is_pushed(sock->sk) && is_send(sock->sk, msg))
		learn_early(sock->sk);
	return 0;
}

/* The call that the running thread began on the socket, if any, has ended. */
static __always_inline void end_send(struct sock *sk, int sent)
{
	struct attempt *attempt = attempt_here();
	struct owner *owner;

	if (!attempt || attempt->sk != (__u64)sk)
		return;
	if (sent >= 0 && !attempt->number)
		learn(sk);
	owner = sent < 0 && attempt->number ? bpf_sk_storage_get(&owners, sk, 0, 0) : NULL;
	if (owner) {
		__sync_val_compare_and_swap(&owner->number, attempt->number, attempt->before.number);
		forget_known();
	}
	end_attempt();
}

bool fired_end_send_4;

/* Everything but a packet socket sends by this function, and those of IPv6 by the next one. */
SEC("fexit/inet_sendmsg")
int BPF_PROG(end_send_4, struct socket *sock, struct msghdr *msg, unsigned long size, int sent)
{
	if (is_enabled(&fired_end_send_4) && sock->sk)
		end_send(sock->sk, sent);
	return 0;
}

bool fired_end_send_6;

SEC("fexit/inet6_sendmsg")
int BPF_PROG(end_send_6, struct socket *sock, struct msghdr *msg, unsigned long size, int sent)
{
	if (is_enabled(&fired_end_send_6) && sock->sk)
		end_send(sock->sk, sent);
	return 0;
}

bool fired_learn_from_push;

/* A call reaches this function only if it has put data into the socket's queue. */
SEC("fentry/tcp_push")
int BPF_PROG(learn_from_push, struct sock *sk)
{
	if (is_enabled(&fired_learn_from_push) && !is_mptcp(sk))
		learn(sk);
	return 0;
}

bool fired_learn_from_recvmsg;

/*
 * The end of a receive is hooked, because only then it is known whether there was something. For a
 * send the process has to be known before.
 */
SEC("fexit/sock_recvmsg")
int BPF_PROG(learn_from_recvmsg, struct socket *sock, struct msghdr *msg, int flags, int received)
{
	if (!is_enabled(&fired_learn_from_recvmsg))
		return 0;
	if (sock->sk && received >= 0)
		learn(sock->sk);
	return 0;
}

/*
 * Whether the running process may use sockets, and is not known as the last user of this one, whose
 * storage cannot be accessed.
 */
static __always_inline bool is_another_user(struct sock *sk, struct process *process)
{
	__u64 address = (__u64)sk;
	struct user *known;
	__u32 mark;

	*process = current_process();
	known = bpf_map_lookup_elem(&socket_users, &address);
	mark = mark_of(process);
	if (known && ((__u32)known->number == mark || is_known_beyond(known->number, known->tried, mark)))
		return false; /* nearly always: the rest takes a helper call for each field of the socket */
	return is_counted_family(BPF_CORE_READ(sk, __sk_common.skc_family)) && !(current_task()->flags & PF_KTHREAD) &&
	       !BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock);
}

/* How often the socket went from one process to another, if it now goes from one to who. */
static __always_inline __u32 turns_of(struct sock *sk, const struct user *from, const struct instance *who)
{
	if (!from)
		return 0;
	if (from->turns == SHARED || is_same_instance(&from->who, who) || is_seen_both_ways(sk))
		return from->turns;
	if (from->turns + 1 == SHARED)
		shared_socket = true;
	return from->turns + 1;
}

/* Records that the running process uses the socket, and returns the process's number. */
static __always_inline __u64 set_user(struct sock *sk, const struct process *process)
{
	__u64 address = (__u64)sk;
	struct user user = {};

	user.number = number_of(process, current_task());
	user.who = instance_of(process);
	user.tried = current_round();
	user.turns = turns_of(sk, bpf_map_lookup_elem(&socket_users, &address), &user.who);
	bpf_map_update_elem(&socket_users, &address, &user, BPF_ANY);
	return user.number;
}

static __always_inline void note_user(struct sock *sk)
{
	struct process process;

	if (is_another_user(sk, &process))
		set_user(sk, &process);
}

/* The running process, which is not known as the user, begins a call. */
static __always_inline void set_user_early(struct sock *sk, const struct process *process, bool sends)
{
	struct attempt attempt = { .sk = (__u64)sk };
	struct user *before = bpf_map_lookup_elem(&socket_users, &attempt.sk);

	if (before)
		attempt.before = *before;
	if ((before && sends) || !begin(&attempt)) {
		attempt.number = set_user(sk, process);
		begin(&attempt);
	}
}

/*
 * The running process begins a call on the socket. It becomes the user now if it sends, because
 * its packets leave before the call ends, and if the call fails the socket goes back. A receiver, or
 * the first user, is one when its call has succeeded.
 */
static __always_inline void note_early(struct sock *sk, bool sends)
{
	struct process process;

	if (!is_another_user(sk, &process))
		return;
	if (!sees_failures || current_task()->flags & PF_IO_WORKER) /* these make no system calls */
		set_user(sk, &process);
	else
		set_user_early(sk, &process, sends);
}

bool fired_end_call;

/* The call that the running thread began, if any, has ended. */
SEC("tp_btf/sys_exit")
int BPF_PROG(end_call, struct pt_regs *regs, long result)
{
	struct attempt *attempt, ended;
	struct process process;
	struct user *user;

	if (!is_enabled(&fired_end_call))
		return 0;
	attempt = attempt_here();
	if (!attempt)
		return 0;
	ended = *attempt;
	end_attempt();
	if (result >= 0 && !ended.number && is_another_user((struct sock *)ended.sk, &process))
		set_user((struct sock *)ended.sk, &process);
	user = result < 0 && ended.number ? bpf_map_lookup_elem(&socket_users, &ended.sk) : NULL;
	if (user && user->number == ended.number)
		bpf_map_update_elem(&socket_users, &ended.sk, &ended.before, BPF_EXIST);
	return 0;
}

bool fired_note_sendmsg;

SEC("kprobe/security_socket_sendmsg")
int note_sendmsg(struct pt_regs *ctx)
{
	struct sock *sk;

	if (!is_enabled(&fired_note_sendmsg))
		return 0;
	sk = BPF_CORE_READ((struct socket *)first_argument(ctx), sk);
	if (is_send(sk, second_argument(ctx)))
		note_early(sk, true);
	return 0;
}

bool fired_note_push;

SEC("kprobe/tcp_push")
int note_push(struct pt_regs *ctx)
{
	if (is_enabled(&fired_note_push))
		note_user(first_argument(ctx));
	return 0;
}

bool fired_note_recvmsg;

SEC("kprobe/security_socket_recvmsg")
int note_recvmsg(struct pt_regs *ctx)
{
	int flags = fourth_argument(ctx);
	struct sock *sk;
	__u16 type;

	if (!is_enabled(&fired_note_recvmsg))
		return 0;
	sk = BPF_CORE_READ((struct socket *)first_argument(ctx), sk);
	type = BPF_CORE_READ(sk, sk_type);
	if (is_seen_later(sk, type, flags)) {
		if (type == SOCK_STREAM && is_at_end(sk))
			note_user(sk);
	} else if (is_receive(sk, flags)) {
		note_early(sk, false);
	}
	return 0;
}

bool fired_note_segments;

/*
 * A call reaches this tracepoint only if it has taken data from the socket's queue. A soft interrupt
 * that does so for the kernel does not own the socket.
 */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(note_segments, struct sock *sk)
{
	if (is_enabled(&fired_note_segments) && sk->sk_lock.owned)
		note_user(sk);
	return 0;
}

bool fired_note_datagram;

/* A call reaches this function only if it has received a datagram of UDP. */
SEC("kprobe/skb_consume_udp")
int note_datagram(struct pt_regs *ctx)
{
	if (is_enabled(&fired_note_datagram))
		note_user(first_argument(ctx));
	return 0;
}

bool fired_note_packet;

/*
 * A call reaches this function only if it has taken a packet from the queue of a raw socket, a packet
 * socket or a socket for pings. The packet is gone even if it could not be copied to the program.
 */
SEC("kprobe/skb_free_datagram")
int note_packet(struct pt_regs *ctx)
{
	if (is_enabled(&fired_note_packet))
		note_user(first_argument(ctx));
	return 0;
}

/*
 * The first send of a child on its parent's connection may take long, and the other hooks report it
 * only at its end.
 */
bool fired_learn_from_message;

SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(learn_from_message, struct sock *sk)
{
	if (!is_enabled(&fired_learn_from_message))
		return 0;
	if (with_users && !is_mptcp(sk))
		note_user(sk); /* an earlier user in socket_users would take precedence over one in the storage */
	else if (!is_known_user(sk))
		make_owner(sk);
	return 0;
}

/*
 * Whether the task that has locked a socket is unlocking it. It then handles the packets that have
 * come in the meantime, and sends what these allow for, whatever the result of its own call was.
 */
static __always_inline bool is_given_up(struct sock *sk)
{
	__u8 locked = 0;

	if (bpf_core_field_exists(sk->sk_lock.slock.lock))
		locked = !!BPF_CORE_READ(sk, sk_lock.slock.lock.owner);
	else
		bpf_probe_read_kernel(&locked, sizeof(locked), &sk->sk_lock.slock);
	return locked || (sk->sk_backlog.len && !sk->sk_backlog.head);
}

/* The socket that sends a packet, or NULL: a forwarded packet may have a sender that runs on another CPU. */
static __always_inline struct sock *sender_of(struct sk_buff *skb)
{
	struct sock *sk = skb->sk;
	__u8 state;

	if (!sk || skb->skb_iif)
		return NULL;
	state = sk->__sk_common.skc_state;
	return state == STATE_NEW_SYN_RECV || state == STATE_TIME_WAIT ? NULL : sk;
}

/* The running process becomes the owner of sk, on which it sends, if that is what its system call does. */
static __always_inline void learn_sender(struct sock *sk, struct owner *owner, __u32 position)
{
	struct process process = current_process();

	if ((__u32)owner->number == mark_of(&process))
		return;
	if (is_system_call(position)) /* a tunnel passes on what others sent, as if it were new */
		take_over(sk, owner, &process);
}

/*
 * The same before Linux 6.16. Only the holder of the lock of a TCP socket sends on it, and while a
 * task holds the lock no softirq does. So the running task is the sender.
 */
bool fired_learn_from_queue;

SEC("tp_btf/net_dev_queue")
int BPF_PROG(learn_from_queue, struct sk_buff *skb)
{
	struct process process;
	struct owner *owner;
	struct sock *sk;

	if (!is_enabled(&fired_learn_from_queue))
		return 0;
	sk = sender_of(skb);
	if (!sk || sk->sk_protocol != IPPROTO_TCP || !sk->sk_lock.owned || is_known_user(sk) || is_given_up(sk))
		return 0;
	if (with_users && !is_mptcp(sk)) {
		if (is_another_user(sk, &process) && is_system_call(position_of(ctx)))
			set_user(sk, &process);
		return 0;
	}
	owner = owner_to_learn(sk);
	if (owner)
		learn_sender(sk, owner, position_of(ctx));
	return 0;
}

/*
 * sock_send_length tells that a process has sent when the datagram has left. That is too late on a
 * socket on which several processes send in turn, where it would belong to the one before.
 */
bool fired_learn_from_datagram;

SEC("tp_btf/net_dev_queue")
int BPF_PROG(learn_from_datagram, struct sk_buff *skb)
{
	struct owner *owner;
	struct sock *sk;

	if (!is_enabled(&fired_learn_from_datagram))
		return 0;
	sk = sender_of(skb);
	if (!sk || sk->sk_protocol == IPPROTO_TCP || is_known_user(sk))
		return 0;
	owner = owner_to_learn(sk);
	if (owner && owner->turns == SHARED)
		learn_sender(sk, owner, position_of(ctx));
	return 0;
}

/* Makes a process the one that listens on sk. */
static __always_inline void listen(struct sock *sk, const struct process *process, struct task_struct *task)
{
	struct owner *owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct listener to = { .number = number_of(process, task), .who = instance_of(process) };
	__u64 address = (__u64)sk;

	if (!owner)
		return;
	owner->listener = address;
	owner->connects = false;
	owner->subflow = is_mptcp(sk);
	owner->number = to.number & ~USED;
	forget_known();
	give_listeners(address, &to);
	note_listener_change();
}

static __always_inline void forget_listener(__u64 address)
{
	bpf_map_delete_elem(&listeners, &address);
	note_listener_change();
	settle_listener(address, NOBODY); /* had a process closed it, that would be done already */
	bpf_map_delete_elem(&handshakes, &address);
}

/*
 * Ends a listener. The process that closes it is the last that had it. The connections left in its
 * accept queue end later, but those of an MPTCP listener have ended by now.
 */
static __always_inline void stop_listening(struct sock *sk)
{
	struct task_struct *task = current_task();
	struct process process = current_process();
	struct instance self = instance_of(&process);
	__u64 address = (__u64)sk;
	struct listener *l;

	l = bpf_map_lookup_elem(&listeners, &address);
	if (l)
		note_last_listener(sk, IPPROTO_TCP, l->number);
	if (l && is_orphan(l)) {
		if (is_same_instance(&l->who, &self))
			settle_listener(address, l->number);
		else if (!(task->flags & PF_KTHREAD))
			listen(sk, &process, task);
	}
	if (sk->sk_protocol != IPPROTO_TCP || is_mptcp(sk))
		forget_listener(address);
}

bool fired_learn_from_state;

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(learn_from_state, struct sock *sk, int old, int new)
{
	struct process process;
	struct owner *owner;

	if (!is_enabled(&fired_learn_from_state))
		return 0;
	if (new == STATE_LISTEN) { /* listen() runs in the process */
		if (!owner_to_learn(sk))
			return 0;
		process = current_process();
		listen(sk, &process, current_task());
	} else if (new == STATE_SYN_SENT) { /* so does connect() */
		owner = bpf_sk_storage_get(&owners, sk, 0, 0);
		if (owner) {
			owner->listener = 0;
			owner->connects = true;
		}
		make_owner(sk);
	} else if ((old == STATE_SYN_RECV || old == STATE_LISTEN) && new == STATE_ESTABLISHED) {
		/*
		 * A new connection is a copy of its listener, with the owner, until a process
		 * accepts and uses it. With MPTCP its state was LISTEN until now.
		 */
		owner = bpf_sk_storage_get(&owners, sk, 0, 0);
		if (owner) {
			__sync_fetch_and_and(&owner->number, ~USED);
			forget_known();
		}
	} else if (old == STATE_LISTEN) {
		stop_listening(sk);
	}
	return 0;
}

bool fired_note_end;

/* A process ends. Its sockets are closed after this, unless other processes have them too. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(note_end, struct task_struct *task)
{
	struct instance who = {};
	struct process process;
	__u32 *dead;

	if (!is_enabled(&fired_note_end))
		return 0;
	if (BPF_CORE_READ(task, signal, live.counter))
		return 0;
	process = process_of(task);
	who = instance_of(&process);
	dead = bpf_map_lookup_elem(&deaths, &who);
	if (!dead)
		return 0;
	*dead = 1;
	note_listener_change();
	orphaned = true;
	return 0;
}

bool fired_learn_from_create;

SEC("cgroup/sock_create")
int learn_from_create(struct bpf_sock *sk)
{
	struct task_struct *task = current_task();
	struct owner new = {};

	if (!is_enabled(&fired_learn_from_create))
		return 1;
	if (task->flags & PF_KTHREAD)
		return 1;
	new.maker = current_process();
	if (bpf_sk_storage_get(&owners, sk, &new, BPF_SK_STORAGE_GET_F_CREATE))
		remember_maker(&new.maker, task);
	return 1;
}

static __always_inline void settle_last(void *sk)
{
	struct pending *p = pending_of(sk);
	struct process process;
	__u64 address;

	if (p) {
		process = current_process();
		credit(p, heir_of(owner_of(sk), process.start_ns, process.pid));
	}
	/* another socket will have the address soon */
	if (with_pending_addresses)
		forget_pending(sk);
	if (!with_users && !with_found)
		return;
	address = address_of(sk);
	if (with_users)
		bpf_map_delete_elem(&socket_users, &address);
	if (with_found)
		bpf_map_delete_elem(&found_owners, &address);
}

/* A process closes a UDP socket, and gives up the port if it had one. */
static __always_inline void leave_port(void *sk)
{
	struct sock *at = (struct sock *)address_of(sk);
	struct process process;

	if (!BPF_CORE_READ((struct inet_sock *)at, inet_sport))
		return;
	process = current_process();
	note_last_listener(at, IPPROTO_UDP, heir_of(owner_of(sk), process.start_ns, process.pid));
}

bool fired_settle_at_release;

SEC("cgroup/sock_release")
int settle_at_release(struct bpf_sock *sk)
{
	if (!is_enabled(&fired_settle_at_release))
		return 1;
	forget_known(); /* another socket will have the address soon */
	if (sk->protocol == IPPROTO_UDP)
		leave_port(sk);
	if (sk->type != SOCK_STREAM || sk->protocol == IPPROTO_MPTCP) /* TCP goes on after close() */
		settle_last(sk);
	return 1;
}

bool fired_settle_at_destroy;

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(settle_at_destroy, struct sock *sk)
{
	struct owner *owner;

	if (!is_enabled(&fired_settle_at_destroy))
		return 0;
	settle_last(sk);
	owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	if (owner && owner->listener == (__u64)sk)
		forget_listener(owner->listener);
	return 0;
}

/* Whether the owner of a socket is the process as it was before an exec or a change of its user. */
static __always_inline bool was_another(__u64 number, const struct process *process)
{
	struct instance self = instance_of(process), *was;

	number |= USED;
	was = bpf_map_lookup_elem(&former, &number);
	return was && is_same_instance(was, &self);
}

/*
 * Whether a process that has a listener open becomes its owner, since there is none, or it was the owner before an
 * exec.
 */
static __always_inline bool inherits_listener(__u64 address, const struct process *process)
{
	struct instance self = instance_of(process);
	struct listener *l;

	l = bpf_map_lookup_elem(&listeners, &address);
	return !l || is_orphan(l) || (is_same_instance(&l->who, &self) && (__u32)l->number != mark_of(process));
}

/* Makes a process the owner of a socket that it owned before an exec or a change of its user. */
static __always_inline void follow(struct owner *owner, const struct process *process, struct task_struct *task)
{
	__u64 was = READ_ONCE(owner->number), number = number_of(process, task);

	if (!is_used(was))
		number &= ~USED;
	__sync_val_compare_and_swap(&owner->number, was, number); /* unless someone uses it just now */
	forget_known();
}

/* The socket of a file that a living process has open, with that process in new; NULL if it is not counted. */
static __always_inline struct sock *socket_of_file(struct bpf_iter__task_file *ctx, struct owner *new)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct instance who;
	struct socket *sock;
	struct sock *sk;

	if (!task || !file)
		return NULL;
	sock = bpf_sock_from_file(file);
	if (!sock)
		return NULL;
	sk = sock->sk;
	if (!sk || !is_counted(sk) || is_kernel_socket(sk))
		return NULL;
	new->maker = process_of(task); /* if several processes hold it, the first, until one of them uses it */
	who = instance_of(&new->maker);
	return task->flags & PF_EXITING || is_dead(&who) ? NULL : sk;
}

SEC("iter/task_file")
int learn_from_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct owner *owner, new = {};
	struct sock *sk = socket_of_file(ctx, &new);

	if (!sk || !task)
		return 0;
	owner = bpf_sk_storage_get(&owners, sk, &new, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 0;
	if (sk->__sk_common.skc_state == STATE_LISTEN) {
		if (inherits_listener((__u64)sk, &new.maker))
			listen(sk, &new.maker, task);
	} else if (!owner->number) {
		remember_maker(&new.maker, task);
	} else if (was_another(owner->number, &new.maker)) {
		follow(owner, &new.maker, task);
	}
	return 0;
}

/* The process of new is found to listen at an address. */
static __always_inline void find_listener(__u64 address, struct owner *new, struct task_struct *task)
{
	struct listener to = { .number = number_of(&new->maker, task), .who = instance_of(&new->maker) };

	new->listener = address;
	new->number = to.number & ~USED;
	bpf_map_update_elem(&found_owners, &address, new, BPF_ANY);
	give_listeners(address, &to);
	note_listener_change();
}

/* The same where what is stored with a socket of a file can be read only. */
SEC("iter/task_file")
int find_in_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct owner new = {}, stored = {};
	struct sock *sk = socket_of_file(ctx, &new);
	__u64 address = (__u64)sk;
	bool known;

	if (!sk || !task)
		return 0;
	known = copy_owner(&stored, sk);
	if (sk->__sk_common.skc_state == STATE_LISTEN) {
		new.subflow = is_mptcp(sk);
		if (inherits_listener(address, &new.maker))
			find_listener(address, &new, task);
		return 0;
	}
	if (!known)
		bpf_map_update_elem(&found_owners, &address, &new, BPF_NOEXIST);
	if (!stored.number)
		remember_maker(&new.maker, task);
	return 0;
}

/*
 * Tells which numbers the last survey found alive: another value means others. User space sets it to 0 before a survey,
 * and computes the same of what it has read.
 */
__u64 living;

static __always_inline void note_living(struct task_struct *task)
{
	struct process_entry *entry;
	struct process process;
	__u64 round;

	if (task->exit_state)
		return;
	process = process_of_typed(task);
	entry = bpf_map_lookup_elem(&processes, &process);
	if (!entry)
		return;
	round = current_round();
	if (entry->round == round)
		return; /* another thread of it was found */
	entry->round = round;
	living += entry->number * entry->number;
}

SEC("raw_tp/run")
int survey_processes(void *ctx)
{
	struct bpf_iter_task walk;
	struct task_struct *task;

	bpf_iter_task_new(&walk, NULL, TASK_ITER_ALL_THREADS);
	while ((task = bpf_iter_task_next(&walk)))
		note_living(task);
	bpf_iter_task_destroy(&walk);
	return 0;
}

/* up to 6.6 */
SEC("iter/task")
int survey_processes_6_6(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		note_living(task);
	return 0;
}

/* Whether what waits with a socket need not wait longer for a process that uses the socket. */
static __always_inline bool has_waited(const struct pending *p, struct sock *sk)
{
	if (bpf_ktime_get_ns() - p->since_ns < patience_ns)
		return false;
	return BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || BPF_CORE_READ(sk, sk_socket); /* or it waits for an accept */
}

SEC("iter/bpf_sk_storage_map")
int settle_unused(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct pending *p = ctx->value;
	struct sock *sk = ctx->sk;
	struct owner *owner;
	__u64 number;

	if (!p || !sk || !has_waited(p, sk))
		return 0;
	owner = owner_of(sk);
	number = heir_of(owner, 0, 0);
	if (!number && owner && owner->listener)
		return 0; /* the process that listened has ended: what waits is for the one that accepts */
	credit(p, number);
	if (owner && !is_used(owner->number))
		__sync_val_compare_and_swap(&owner->number, owner->number & ~USED, number);
	return 0;
}

static long settle_at_address(void *map, const __u64 *address, struct pending *p, void *unused)
{
	struct sock *sk = (struct sock *)*address;
	struct owner owner = {};
	bool known;
	__u64 number;

	if (!has_waited(p, sk))
		return 0;
	known = copy_owner(&owner, sk);
	number = known ? heir_of(&owner, 0, 0) : NOBODY;
	if (number || !owner.listener)
		credit(p, number);
	return 0;
}

/* The same where the kernel lets no program go through the storage of all sockets. Needs Linux 5.13. */
SEC("raw_tp/run")
int settle_addresses(void *ctx)
{
	bpf_for_each_map_elem(&pendings_by_address, settle_at_address, NULL, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
