/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "books.h"
#include "process.h"

/* Numbers that are no process's: see struct owner. */
#define NOBODY 0ULL
#define OVERFLOW (~0ULL) /* a process beyond max_processes */

/*
 * The process a socket belongs to: who last sent or received on it, and until
 * someone has, who created it or listens for it. Readers in softirq use number,
 * which changes in one store.
 */
struct owner {
	__u64 number; /* key of maps that count by process; see struct process_entry */
	struct process process;
	__u32 used;    /* someone sent or received: what arrives is theirs at once */
	__u32 subflow; /* of MPTCP: follows the owner of the socket above it */
};

struct process_entry {
	__u64 number;
	__u64 epoch; /* of the last survey that found it alive */
	struct process_seen seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct owner);
} owners SEC(".maps");

/* Every process that owns a socket; user space sets the size and forgets the dead. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct process);
	__type(value, struct process_entry);
} processes SEC(".maps");

/*
 * Listeners by their address, for a SYN-ACK carries a request_sock, and the
 * verifier does not let its listener be used as a socket.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64); /* the owner's number */
} listeners SEC(".maps");

/*
 * Who last sent or received on a socket, by its address, where that is learned
 * from kprobes: they may not use a socket's storage. Set by user space.
 */
const volatile bool with_users;

struct user {
	__u64 number;
	struct process process;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* user space sets it where it is used */
	__type(key, __u64);
	__type(value, struct user);
} users SEC(".maps");

static __always_inline bool is_mptcp(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;

	/* The kernel's raw socket for resets has the protocol too, and is no tcp_sock. */
	return sk->sk_protocol == IPPROTO_TCP && sk->sk_type == SOCK_STREAM && bpf_core_field_exists(tcp->is_mptcp) &&
	       BPF_CORE_READ_BITFIELD_PROBED(tcp, is_mptcp);
}

/* A socket of the kernel's own: its traffic belongs to no process. */
static __always_inline bool is_kernel_socket(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock) && !is_mptcp(sk);
}
