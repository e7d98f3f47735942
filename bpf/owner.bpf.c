/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * owner - which process each socket belongs to.
 *
 * Hooks:   tp_btf sock_send_length     a process sent on a socket
 *          tp_btf sock_recv_length     a process received from a socket
 *            before Linux 6.3: fentry security_socket_sendmsg, _recvmsg
 *            where functions cannot be traced: kprobes on the same
 *          tp_btf net_dev_queue        a process sends on TCP, and has not returned yet;
 *                                      or what has arrived here is forwarded
 *          tp_btf inet_sock_set_state  a process connects or listens; a child is born
 *          cgroup/sock_create          a process made an IP socket
 *          cgroup/sock_release         a process closed an IP socket
 *          tp_btf tcp_destroy_sock     a TCP socket's last packet is gone
 *          iter task_file              sockets older than us, at start; those of a
 *                                      process that has changed itself since
 *          iter task                   which processes live, at each collection
 *          iter bpf_sk_storage_map     sockets nobody uses, at each collection
 * Output:  socket storage owners; map processes, one entry a process.
 * Rule:    the owner is who last sent or received, never a kernel thread and
 *          never whom a softirq interrupted: these hooks run in the process's
 *          own context.
 * Loss:    a process that finds the map full is OVERFLOW; a socket that gets no
 *          storage is unowned.
 * Needs:   BTF, Linux 5.12 (atomic exchange).
 */
#include "lib/arrival.h"
#include "lib/pending.h"
#include "lib/proof.h"
#include "lib/registers.h"

/* Set by user space before a survey; entries that carry it are alive. */
__u64 epoch = 1;

/* Sockets in use by nobody for this long keep what waits: their creator gets it. */
const volatile __u64 patience_ns = 3000000000ULL;

static __u64 last_number;

static __always_inline __u64 number_of(struct process *process, struct task_struct *task)
{
	struct process_entry *entry, new = {};

	entry = bpf_map_lookup_elem(&processes, process);
	if (entry)
		return entry->number;
	new.number = __sync_fetch_and_add(&last_number, 1) + 1;
	new.epoch = epoch;
	see_process(&new.seen, task);
	bpf_map_update_elem(&processes, process, &new, BPF_NOEXIST); /* the second look counts */
	entry = bpf_map_lookup_elem(&processes, process);
	return entry ? entry->number : OVERFLOW;
}

static __always_inline void own(struct owner *owner, struct process *process,
				struct task_struct *task)
{
	owner->process = *process;
	owner->number = number_of(process, task);
}

static __always_inline bool is_counted_family(__u16 family)
{
	return family == AF_INET || family == AF_INET6 || family == AF_PACKET;
}

static __always_inline bool is_counted(struct sock *sk)
{
	return is_counted_family(sk->__sk_common.skc_family);
}

/* The running process used the socket: it is the owner. */
static __always_inline void learn(struct sock *sk)
{
	struct task_struct *task = current_task();
	struct process process;
	struct owner *owner;

	if (!is_counted(sk) || task->flags & PF_KTHREAD || is_kernel_socket(sk))
		return;
	owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return;
	process = current_process();
	if (!is_same_process(&owner->process, &process) || owner->number == OVERFLOW)
		own(owner, &process, task);
	if (!owner->used) {
		owner->used = 1;
		owner->subflow = is_mptcp(sk);
		if (settle(sk, owner->number))
			bpf_sk_storage_delete(&pendings, sk);
	}
}

bool fired_learn_from_send;

SEC("tp_btf/sock_send_length")
int BPF_PROG(learn_from_send, struct sock *sk, int sent, int flags)
{
	if (!is_armed(&fired_learn_from_send))
		return 0;
	learn(sk);
	return 0;
}

bool fired_learn_from_receive;

SEC("tp_btf/sock_recv_length")
int BPF_PROG(learn_from_receive, struct sock *sk, int received, int flags)
{
	if (!is_armed(&fired_learn_from_receive))
		return 0;
	learn(sk);
	return 0;
}

bool fired_learn_from_sendmsg;

SEC("fentry/security_socket_sendmsg")
int BPF_PROG(learn_from_sendmsg, struct socket *sock, struct msghdr *msg, int size)
{
	if (!is_armed(&fired_learn_from_sendmsg))
		return 0;
	if (sock->sk)
		learn(sock->sk);
	return 0;
}

bool fired_learn_from_recvmsg;

SEC("fentry/security_socket_recvmsg")
int BPF_PROG(learn_from_recvmsg, struct socket *sock, struct msghdr *msg, int size, int flags)
{
	if (!is_armed(&fired_learn_from_recvmsg))
		return 0;
	if (sock->sk)
		learn(sock->sk);
	return 0;
}

/* The running process uses a socket whose storage is out of reach. */
static __always_inline void note_user(struct socket *socket)
{
	struct task_struct *task = current_task();
	struct sock *sk = BPF_CORE_READ(socket, sk);
	__u64 address = (__u64)sk;
	struct user *known, user = {};

	if (!is_counted_family(BPF_CORE_READ(sk, __sk_common.skc_family)) || task->flags & PF_KTHREAD ||
	    BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock))
		return;
	user.process = current_process();
	known = bpf_map_lookup_elem(&users, &address);
	if (known && is_same_process(&known->process, &user.process) && known->number != OVERFLOW)
		return;
	user.number = number_of(&user.process, task);
	bpf_map_update_elem(&users, &address, &user, BPF_ANY);
}

bool fired_note_sendmsg;

SEC("kprobe/security_socket_sendmsg")
int note_sendmsg(struct pt_regs *ctx)
{
	if (!is_armed(&fired_note_sendmsg))
		return 0;
	note_user(first_argument(ctx));
	return 0;
}

bool fired_note_recvmsg;

SEC("kprobe/security_socket_recvmsg")
int note_recvmsg(struct pt_regs *ctx)
{
	if (!is_armed(&fired_note_recvmsg))
		return 0;
	note_user(first_argument(ctx));
	return 0;
}

/*
 * What is forwarded is claimed while it is still the skb that arrived, on the CPU where it
 * did: later another CPU may take it from the queue, or cut it into segments.
 *
 * The first send of a child on its parent's connection may be long, and is told
 * of when it is over. Only who holds the lock of a TCP socket sends on it, and as
 * long as a task holds it no softirq does: the running task is the sender.
 */
bool fired_learn_from_queue;

SEC("tp_btf/net_dev_queue")
int BPF_PROG(learn_from_queue, struct sk_buff *skb)
{
	struct sock *sk = skb->sk;
	__u8 state;

	if (!is_armed(&fired_learn_from_queue))
		return 0;
	if (skb->skb_iif) { /* forwarded: its sender may be at work elsewhere */
		claim_whole(skb, ACCOUNT_FORWARDED);
		return 0;
	}
	if (!sk)
		return 0;
	state = sk->__sk_common.skc_state;
	if (state != STATE_NEW_SYN_RECV && state != STATE_TIME_WAIT && sk->sk_protocol == IPPROTO_TCP &&
	    sk->sk_lock.owned)
		learn(sk);
	return 0;
}

static __always_inline void listen(struct sock *sk)
{
	struct owner *owner = bpf_sk_storage_get(&owners, sk, 0, 0);
	__u64 address = (__u64)sk;

	if (owner && owner->number)
		bpf_map_update_elem(&listeners, &address, &owner->number, BPF_ANY);
}

bool fired_learn_from_state;

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(learn_from_state, struct sock *sk, int old, int new)
{
	__u64 address = (__u64)sk;
	struct owner *owner;

	if (!is_armed(&fired_learn_from_state))
		return 0;
	if (new == STATE_SYN_SENT || new == STATE_LISTEN) {
		learn(sk); /* connect() and listen() run in the process */
	} else if ((old == STATE_SYN_RECV || old == STATE_LISTEN) && new == STATE_ESTABLISHED) {
		/*
		 * A clone of its listener, owner included, until someone accepts and uses it;
		 * one of MPTCP was LISTEN until now.
		 */
		owner = bpf_sk_storage_get(&owners, sk, 0, 0);
		if (owner)
			owner->used = 0;
	}
	if (new == STATE_LISTEN)
		listen(sk);
	else if (old == STATE_LISTEN)
		bpf_map_delete_elem(&listeners, &address);
	return 0;
}

bool fired_learn_from_create;

SEC("cgroup/sock_create")
int learn_from_create(struct bpf_sock *sk)
{
	struct task_struct *task = current_task();
	struct process process;
	struct owner *owner;

	if (!is_armed(&fired_learn_from_create))
		return 1;
	if (task->flags & PF_KTHREAD)
		return 1;
	owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 1;
	process = current_process();
	own(owner, &process, task);
	return 1;
}

static __always_inline void settle_last(void *sk)
{
	struct owner *owner = owner_of(sk);
	__u64 address;

	settle(sk, owner ? owner->number : NOBODY);
	if (!with_users)
		return;
	address = address_of(sk);
	bpf_map_delete_elem(&users, &address); /* soon it is another socket's */
}

bool fired_settle_at_release;

SEC("cgroup/sock_release")
int settle_at_release(struct bpf_sock *sk)
{
	if (!is_armed(&fired_settle_at_release))
		return 1;
	if (sk->type != SOCK_STREAM || sk->protocol == IPPROTO_MPTCP) /* TCP goes on after close() */
		settle_last(sk);
	return 1;
}

bool fired_settle_at_destroy;

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(settle_at_destroy, struct sock *sk)
{
	if (!is_armed(&fired_settle_at_destroy))
		return 0;
	settle_last(sk);
	return 0;
}

SEC("iter/task_file")
int learn_from_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct process process;
	struct socket *sock;
	struct owner *owner;
	struct sock *sk;

	if (!task || !file)
		return 0;
	sock = bpf_sock_from_file(file);
	if (!sock)
		return 0;
	sk = sock->sk;
	if (!sk || !is_counted(sk) || is_kernel_socket(sk))
		return 0;
	owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 0;
	process = process_of(task);
	if (!owner->number) { /* of several holders the first, until one of them uses it */
		own(owner, &process, task);
		owner->used = 1;
	} else if (owner->process.pid == process.pid && owner->process.start_ns == process.start_ns &&
		   !is_same_process(&owner->process, &process)) {
		own(owner, &process, task); /* it kept the socket over an exec or a change of user */
	}
	if (sk->__sk_common.skc_state == STATE_LISTEN)
		listen(sk);
	return 0;
}

SEC("iter/task")
int survey_processes(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct process_entry *entry;
	struct process process;

	if (!task || task->exit_state)
		return 0;
	process = process_of(task);
	entry = bpf_map_lookup_elem(&processes, &process);
	if (entry)
		entry->epoch = epoch;
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int settle_unused(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct pending *p = ctx->value;
	struct sock *sk = ctx->sk;
	struct owner *owner;

	if (!p || !sk || bpf_ktime_get_ns() - p->since_ns < patience_ns)
		return 0;
	if (sk->sk_protocol == IPPROTO_TCP && !sk->sk_socket)
		return 0; /* still waits for an accept */
	owner = owner_of(sk);
	credit(p, owner ? owner->number : NOBODY);
	if (owner)
		owner->used = 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
