/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/address.h"
#include "../kernel/verifier.h"
#include "../process/process.h"
#include "tcp.h"

/* The value of a field whose content is not known. */
#define UNKNOWN (-1)

struct accept {
	__u64 time_ns;  /* CLOCK_BOOTTIME */
	__s64 queue_ns; /* from the handshake's end to the accept */
	struct process process;
	struct process_seen seen;
	__u8 local_address[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 peer_address[16];
	__u32 netns_inode;
	__u32 thread_id;    /* in the root pid namespace */
	__s32 queue_length; /* connections that wait after this one */
	__s32 queue_limit;
	__u16 local_port; /* host byte order */
	__u16 peer_port;
	/*
	 * Our first sequence number, by which this connection differs from a later one with the
	 * same ends; 0 if it was not asked for.
	 */
	__u32 first_sequence;
};

/*
 * Set if the ends of connections are reported too. A connection and its end are matched by
 * first_sequence.
 */
const volatile bool with_sequence;

/*
 * The kernel notes the time when the handshake ends (tcp_init_buffer_space), and
 * again only when the process reads.
 */
static __always_inline __s64 queue_time(struct tcp_sock *tcp, bool known)
{
	__u64 established_us = FIELD_OF(tcp, rcvq_space.time);
	__s64 queue_ns = bpf_ktime_get_ns() - established_us * 1000;

	return established_us && queue_ns >= 0 ? queue_ns : UNKNOWN;
}

/* How many connections wait in the queue of a listener, and how many can. */
struct queue {
	__s32 length;
	__s32 limit;
};

/* The queue of a listener, which may be NULL. */
static __always_inline struct queue queue_of(struct sock *listener)
{
	struct queue queue = { .length = UNKNOWN, .limit = UNKNOWN };
	struct sock *sk = tcp_of(listener);

	if (sk && BPF_CORE_READ(sk, __sk_common.skc_state) == STATE_LISTEN) {
		queue.length = BPF_CORE_READ(sk, sk_ack_backlog);
		queue.limit = BPF_CORE_READ(sk, sk_max_ack_backlog);
	}
	return queue;
}

/* Fills in what is known of the running process. */
static __always_inline void note_acceptor(struct accept *accept)
{
	accept->process = running_process();
	see_current(&accept->seen, accept->time_ns);
	accept->thread_id = THIS_TASK(pid);
}

/*
 * Fills a record: the running task accepted sk, from a listener with this queue. known tells whether tcp, which is
 * sk or its first subflow, has its type for the verifier.
 */
static __always_inline void note_accept(struct accept *accept, struct sock *sk, struct tcp_sock *tcp, struct queue queue, bool known)
{
	accept->time_ns = bpf_ktime_get_boot_ns();
	accept->queue_ns = queue_time(tcp, known);
	accept->queue_length = queue.length;
	accept->queue_limit = queue.limit;
	note_acceptor(accept);
	__builtin_memset(accept->local_address, 0, sizeof(accept->local_address));
	__builtin_memset(accept->peer_address, 0, sizeof(accept->peer_address));
	note_addresses(accept->local_address, accept->peer_address, sk, known);
	accept->local_port = known ? bpf_ntohs(((struct inet_sock *)tcp)->inet_sport) : local_port_of(sk);
	accept->peer_port = bpf_ntohs(FIELD_OF(sk, __sk_common.skc_dport));
	accept->netns_inode = known ? sk->__sk_common.skc_net.net->ns.inum : BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	accept->first_sequence = with_sequence ? first_sequence_of(tcp, known) : 0;
}
