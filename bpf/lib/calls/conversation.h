/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../syscall/operation.h"
#include "thread.h"

/*
 * Whether a thread waits on a socket for an answer or for work. A server waits for work whenever it
 * has nothing to read. A client waits for an answer from the moment it sends until it has received.
 * Most threads both send and receive on a socket, so each thread remembers what it did with its
 * last few descriptors. For a thread that only receives, the kernel knows how much was sent on the
 * socket when the thread last received.
 */

static __always_inline __u16 family_of(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_family);
}

/* Whether an MPTCP socket was accepted. Only its first subflow has inherited something of the listener. */
static __always_inline bool is_passive_mptcp(struct sock *sk)
{
	if (!bpf_core_type_exists(struct mptcp_sock))
		return false;
	return BPF_CORE_READ((struct mptcp_sock *)sk, first, sk_max_ack_backlog);
}

/*
 * Whether a socket serves: it was accepted, or it is bound to a port and not connected. An accepted
 * socket has inherited the limit of its listener's accept queue, and one that connects has no
 * limit.
 */
static __always_inline bool is_passive(struct sock *sk, __u16 family)
{
	__u16 protocol;

	if (family == AF_UNIX)
		return BPF_CORE_READ((struct unix_sock *)sk, addr);
	if (family != AF_INET && family != AF_INET6)
		return false;
	protocol = BPF_CORE_READ(sk, sk_protocol);
	if (protocol == IPPROTO_TCP)
		return BPF_CORE_READ(sk, sk_max_ack_backlog);
	if (protocol == IPPROTO_MPTCP)
		return is_passive_mptcp(sk);
	return !BPF_CORE_READ(sk, __sk_common.skc_dport) &&
	       BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK;
}

static __always_inline bool is_tcp_connection(struct sock *sk)
{
	__u16 family = family_of(sk);

	return (family == AF_INET || family == AF_INET6) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP;
}

/* How many bytes were sent on a TCP connection, modulo 2^32. */
static __always_inline __u32 written_on(struct sock *sk)
{
	return BPF_CORE_READ((struct tcp_sock *)sk, write_seq);
}

/* What the running thread, whose tree is t, remembers of fd. */
static __always_inline struct conversation *conversation_of(struct tree *t, __s32 fd)
{
	struct thread *th = this_thread();
	__u32 at = fd & (CONVERSATIONS - 1);

	return th ? &th->conversation[at] : &t->conversation[at];
}

/* The running thread has sent, received or connected on fd, or has closed it. */
static __always_inline void note_exchange(struct conversation *c, __u8 operation, __s32 fd)
{
	if (c->fd != fd || operation == OPERATION_OTHER) {
		c->fd = fd;
		c->role = ROLE_UNKNOWN;
	}
	switch (operation) {
	case OPERATION_SEND:
		if (c->role != ROLE_SERVER)
			c->role = ROLE_CLIENT;
		c->asks = 1;
		break;
	case OPERATION_CONNECT:
		c->role = ROLE_CONNECTED;
		c->asks = 0;
		break;
	case OPERATION_RECEIVE:
		c->asks = 0;
		break;
	}
}

/* Whether the role on a descriptor stays as it is if the thread sends there (sends is 1) or receives (sends is 0). */
static __always_inline bool stays(const struct conversation *c, __u32 sends)
{
	return c->role & (ROLE_STAYS_ON_RECEIVE - sends);
}

/* Whether the thread receives on this descriptor and has never sent: another thread may do that. */
static __always_inline bool is_reader(const struct conversation *c, __u8 operation)
{
	return operation == OPERATION_RECEIVE && (c->role == ROLE_UNKNOWN || c->role == ROLE_READER || c->role == ROLE_CONNECTED);
}

static __always_inline void note_reader(struct conversation *c, struct sock *sk)
{
	if (is_passive(sk, family_of(sk))) {
		c->role = ROLE_SERVER;
	} else if (is_tcp_connection(sk)) {
		c->role = ROLE_READER;
		c->written = written_on(sk);
	} else {
		c->role = c->role == ROLE_CONNECTED ? ROLE_CLIENT : ROLE_OTHER;
	}
}

/* Whether the running thread, which finds nothing to receive on sk, waits for work. */
static __always_inline bool waits_for_work(struct tree *t, struct sock *sk)
{
	struct conversation *c = conversation_of(t, t->call.fd);
	__u8 role = c->fd == t->call.fd ? c->role : ROLE_UNKNOWN;

	if (role == ROLE_CLIENT)
		return !c->asks;
	if (is_passive(sk, family_of(sk)))
		return true;
	if (!is_tcp_connection(sk))
		return role == ROLE_CONNECTED;
	if (role == ROLE_READER)
		return c->written == written_on(sk);
	return !BPF_CORE_READ((struct tcp_sock *)sk, bytes_sent);
}

/*
 * When another thread asked for an answer on sk after off_ns; 0 if none did. The kernel records the
 * time of sending in jiffies.
 */
static __always_inline __u64 asked_since(struct tree *t, struct sock *sk, __u64 off_ns, __u64 now_ns)
{
	__u32 jiffies = bpf_jiffies64(), sent;

	if (!is_tcp_connection(sk) || is_passive(sk, family_of(sk)))
		return 0;
	if (written_on(sk) == t->off_written || jiffies == t->off_jiffies)
		return 0;
	sent = BPF_CORE_READ((struct tcp_sock *)sk, lsndtime) - t->off_jiffies;
	if (sent > jiffies - t->off_jiffies)
		return off_ns; /* by this coarse clock, before the thread left the CPU */
	return off_ns + (now_ns - off_ns) / (jiffies - t->off_jiffies) * sent;
}
