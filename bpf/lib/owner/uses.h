/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * Whether a call counts as a use of its socket, for hooks that run before the call is made. It does
 * not count if it is certain to fail, or if it must not wait and finds nothing to receive or no room.
 */

/*
 * User space sets these if another hook runs when a call has succeeded: a call that sends by TCP, or
 * one that receives by TCP, by UDP, or on a raw or packet socket. Then the call itself does not count.
 */
const volatile bool sees_sent, sees_segments, sees_datagrams, sees_packets;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct proto {
	void *sendmsg;
	void *recvmsg;
};

struct sock_common___with_functions {
	struct proto *skc_prot;
};

struct sock___with_functions {
	struct sock_common___with_functions __sk_common;
	struct proto *sk_prot_creator; /* the first value of skc_prot */
};

#pragma clang attribute pop

/* kTLS and sockmaps replace functions of a socket by others, whose calls the hooks do not see reliably. */
static __always_inline bool is_replaced(struct sock *at)
{
	struct sock___with_functions *sk = (void *)at;
	struct proto *now = BPF_CORE_READ(sk, __sk_common.skc_prot), *first = BPF_CORE_READ(sk, sk_prot_creator);

	return now != first && (BPF_CORE_READ(now, sendmsg) != BPF_CORE_READ(first, sendmsg) ||
				BPF_CORE_READ(now, recvmsg) != BPF_CORE_READ(first, recvmsg));
}

/*
 * Whether another hook runs when a call has sent something on the socket. is_send checks the same
 * with helper calls. Where the verifier knows the pointer's type, this takes fewer instructions.
 */
static __always_inline bool is_pushed(struct sock *sk)
{
	struct sock___with_functions *at = (void *)sk;

	return sees_sent && sk->sk_type == SOCK_STREAM && sk->sk_protocol == IPPROTO_TCP &&
	       at->__sk_common.skc_prot->sendmsg == at->sk_prot_creator->sendmsg;
}

static __always_inline bool is_send(struct sock *sk, struct msghdr *msg)
{
	if (BPF_CORE_READ(sk, sk_type) != SOCK_STREAM)
		return true;
	if (sees_sent && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP && !is_replaced(sk))
		return false;
	return !(BPF_CORE_READ(sk, sk_shutdown) & SEND_SHUTDOWN) &&
	       (!(BPF_CORE_READ(msg, msg_flags) & MSG_DONTWAIT) ||
		BPF_CORE_READ(sk, sk_wmem_queued) < BPF_CORE_READ(sk, sk_sndbuf));
}

/* Whether another hook runs when a call has received something on the socket. */
static __always_inline bool is_seen_later(struct sock *sk, __u16 type, int flags)
{
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	if (flags & (MSG_OOB | MSG_ERRQUEUE) || is_replaced(sk)) /* it does not take from the queue that the hooks see */
		return false;
	switch (type) {
	case SOCK_STREAM:
		return sees_segments && protocol == IPPROTO_TCP;
	case SOCK_DGRAM:
		return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ? sees_datagrams : sees_packets;
	case SOCK_RAW:
		return sees_packets;
	}
	return false;
}

/* Whether other hooks run when a call has sent or received something on the socket. */
static __always_inline bool is_seen_both_ways(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_type) == SOCK_STREAM && sees_sent && is_seen_later(sk, SOCK_STREAM, 0);
}

/*
 * Whether the peer has ended the connection and all data was received. A call succeeds then, though
 * there is nothing to receive.
 */
static __always_inline bool is_at_end(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_shutdown) & RCV_SHUTDOWN &&
	       !BPF_CORE_READ(sk, sk_err) && !BPF_CORE_READ(sk, sk_receive_queue.qlen);
}

/* Whether there may be something to receive. MPTCP has queues of its own, which are not read here. */
static __always_inline bool has_data(struct sock *sk)
{
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	return protocol == IPPROTO_MPTCP || BPF_CORE_READ(sk, sk_receive_queue.qlen) ||
	       (protocol == IPPROTO_UDP && BPF_CORE_READ((struct udp_sock *)sk, reader_queue.qlen));
}

/* Of a call that no other hook sees when it has received something. */
static __always_inline bool is_receive(struct sock *sk, int flags)
{
	return !(flags & MSG_DONTWAIT) || has_data(sk);
}
