/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/address.h"
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

struct tcp_sock___sequence {
	__u32 snd_una;
	__u64 bytes_acked;
} __attribute__((preserve_access_index));

/* The difference stays the same while the connection lives, since both fields grow together. */
static __always_inline __u32 first_sequence_of(struct sock *sk)
{
	struct tcp_sock___sequence *tcp = (struct tcp_sock___sequence *)sk;

	return BPF_CORE_READ(tcp, snd_una) - (__u32)BPF_CORE_READ(tcp, bytes_acked);
}

/*
 * The kernel notes the time when the handshake ends (tcp_init_buffer_space), and
 * again only when the process reads.
 */
static __always_inline __s64 queue_time(struct sock *sk)
{
	__u64 established_us = BPF_CORE_READ((struct tcp_sock *)tcp_of(sk), rcvq_space.time);
	__s64 queue_ns = bpf_ktime_get_ns() - established_us * 1000;

	return established_us && queue_ns >= 0 ? queue_ns : UNKNOWN;
}

static __always_inline void note_queue(struct accept *accept, struct sock *listener)
{
	struct sock *sk = tcp_of(listener);

	accept->queue_length = accept->queue_limit = UNKNOWN;
	if (sk && BPF_CORE_READ(sk, __sk_common.skc_state) == STATE_LISTEN) {
		accept->queue_length = BPF_CORE_READ(sk, sk_ack_backlog);
		accept->queue_limit = BPF_CORE_READ(sk, sk_max_ack_backlog);
	}
}

/* Fills a record: the running task accepted sk from listener, which may be NULL. */
static __always_inline void note_accept(struct accept *accept, struct sock *sk, struct sock *listener)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	__builtin_memset(accept, 0, sizeof(*accept));
	accept->time_ns = bpf_ktime_get_boot_ns();
	accept->queue_ns = queue_time(sk);
	accept->process = process_of(task);
	see_process(&accept->seen, task);
	accept->thread_id = BPF_CORE_READ(task, pid);
	note_addresses(accept->local_address, accept->peer_address, sk);
	accept->local_port = local_port_of(sk);
	accept->peer_port = peer_port_of(sk);
	accept->netns_inode = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	note_queue(accept, listener);
	if (with_sequence)
		accept->first_sequence = first_sequence_of(tcp_of(sk));
}
