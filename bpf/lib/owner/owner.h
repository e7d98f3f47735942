/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/verifier.h"
#include "../program/stats.h"
#include "number.h"

/*
 * The process that a socket belongs to: the one that last sent or received on it, and
 * until one has, the one that listens for it or created it. The number changes in one
 * store, because it is read in soft interrupts.
 */
struct owner {
	__u64 number;
	__u64 listener;       /* address of the listener that this socket is, or from which it comes; 0: neither */
	struct process maker; /* written before anyone else can see the socket */
	__u32 tried;          /* low half of the round in which its user last found no room */
	__u8 subflow;         /* of MPTCP: its owner is that of the MPTCP socket */
	__u8 connects;        /* the socket connects or has connected; it was not accepted */
	__u8 turns;           /* how often it went from one process to another, up to SHARED; not of plain TCP */
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct owner);
} owners SEC(".maps");

/*
 * The process that last sent or received on a socket, by the socket's address, if it is
 * learned from kprobes, which may not use a socket's storage. User space sets the size.
 */
const volatile bool with_users;

struct user {
	__u64 number;
	struct instance who;
	__u32 tried; /* as in struct owner, like the next one */
	__u32 turns;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* user space sets the size if the map is used */
	__type(key, __u64);
	__type(value, struct user);
} socket_users SEC(".maps");

/*
 * Some kernels let no program use the storage of a socket that it finds in a table of open files. There what is learned
 * of such a socket is here, by the socket's address, until a program meets the socket that may use its storage.
 */
const volatile bool with_found;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* user space sets the size if the map is used */
	__type(key, __u64);
	__type(value, struct owner);
} found_owners SEC(".maps");

/* What is stored with a socket, or NULL. */
static __always_inline struct owner *stored_owner(void *sk)
{
	struct owner *owner = bpf_sk_storage_get(&owners, sk, 0, 0), *found;
	__u64 address;

	if (owner || !with_found)
		return owner;
	address = address_of(sk);
	found = bpf_map_lookup_elem(&found_owners, &address);
	return found ? bpf_sk_storage_get(&owners, sk, found, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
}

static __always_inline bool is_mptcp(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;

	/* The kernel's raw socket for resets has this protocol too, but is not a tcp_sock. */
	return sk->sk_protocol == IPPROTO_TCP && sk->sk_type == SOCK_STREAM && bpf_core_field_exists(tcp->is_mptcp) &&
	       BPF_CORE_READ_BITFIELD_PROBED(tcp, is_mptcp);
}

/* Whether a socket is the kernel's own, whose traffic belongs to no process. */
static __always_inline bool is_kernel_socket(struct sock *sk)
{
	return BPF_CORE_READ_BITFIELD(sk, sk_kern_sock) && !is_mptcp(sk);
}
