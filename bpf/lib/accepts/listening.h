/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/address.h"
#include "../process/process.h"
#include "tcp.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct inode {
	unsigned long i_ino;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct sock_common___marks {
	unsigned long skc_flags; /* of the socket, whose first member it is in */
};

enum sock_flags {
	SOCK_RCU_FREE = 22, /* the number differs between kernels */
};

#pragma clang attribute pop

/* A TCP socket that listens. */
struct listening {
	struct process process; /* called listen(), or had the socket open when nettap started */
	struct process_seen seen;
	__u64 opened_ns;        /* CLOCK_BOOTTIME; 0: before nettap started */
	__u64 inode;            /* of the socket, as in /proc/PID/fd */
	__u8 local_address[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u32 netns_inode;
	__u32 queue_length; /* connections that wait for an accept */
	__u32 queue_limit;
	__u16 local_port; /* host byte order */
	__u8 surveyed;    /* a survey has found it, so user space most likely knows it */
	__u8 missing;     /* number of surveys in a row in which it did not listen */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	/*
	 * address of the socket; of an MPTCP socket, that of the TCP socket which has the
	 * handshakes
	 */
	__type(key, __u64);
	__type(value, struct listening);
} listening SEC(".maps");

/*
 * Whether connections find the socket. The kernel marks a socket as listening before it knows
 * whether the socket gets its port, which another socket may have.
 */
static __always_inline bool is_found(struct sock *sk)
{
	unsigned long flags = BPF_CORE_READ((struct sock_common___marks *)sk, skc_flags);

	return flags >> bpf_core_enum_value(enum sock_flags, SOCK_RCU_FREE) & 1;
}

/* Fills in what is not known yet when a socket begins to listen, or may change later. */
static __always_inline void look(struct listening *l, struct sock *sk)
{
	__u8 local[16] = {}, peer[16] = {};

	note_addresses(local, peer, sk, false);
	__builtin_memcpy(l->local_address, local, sizeof(local));
	l->local_port = local_port_of(sk);
	l->queue_length = BPF_CORE_READ(sk, sk_ack_backlog);
	l->queue_limit = BPF_CORE_READ(sk, sk_max_ack_backlog);
}

/*
 * Records a listener of a process. The result is 0 or a negative error. The caller sets opened_ns.
 */
static __always_inline long enter_listener(struct sock *sk, struct listening *l, struct task_struct *task, __u64 flags)
{
	struct socket_alloc *socket = (struct socket_alloc *)BPF_CORE_READ(sk, sk_socket);
	__u64 address = (__u64)sk;

	l->process = process_of(task);
	see_process(&l->seen, task);
	l->inode = BPF_CORE_READ(socket, vfs_inode.i_ino);
	l->netns_inode = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	return bpf_map_update_elem(&listening, &address, l, flags);
}
