/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "operation.h"

/*
 * Whether somebody waits for an answer on a socket, or for work. A server waits for
 * work whenever it has nothing to read. A client waits for an answer from when it
 * sends until it has received; that is noted here for sockets that are no server's.
 */
struct conversation {
	__u64 sent_ns; /* CLOCK_BOOTTIME; 0: not since it was connected */
	__u64 received_ns;
	__u64 ends; /* a later socket at the same address has others */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* address of the socket */
	__type(value, struct conversation);
} conversations SEC(".maps");

static __always_inline __u16 family_of(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_family);
}

/*
 * A socket that serves: accepted, or bound to a port and not connected. A child
 * has the limit of its listener's accept queue; one that connects has none.
 */
static __always_inline bool is_passive(struct sock *sk, __u16 family)
{
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	if (family == AF_UNIX)
		return BPF_CORE_READ((struct unix_sock *)sk, addr);
	if (family != AF_INET && family != AF_INET6)
		return false;
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP)
		return BPF_CORE_READ(sk, sk_max_ack_backlog);
	return !BPF_CORE_READ(sk, __sk_common.skc_dport) &&
	       BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK;
}

/* Both addresses and ports of an IPv4 socket, which struct sock begins with, in a word. */
static __always_inline __u64 ends_of(struct sock *sk)
{
	__u64 ends[2] = {}; /* skc_addrpair; skc_hash and skc_portpair */

	bpf_probe_read_kernel(ends, sizeof(ends), &sk->__sk_common.skc_daddr);
	return ends[0] ^ ends[1];
}

static __always_inline struct conversation *conversation_of(struct sock *sk)
{
	__u64 address = (__u64)sk;
	struct conversation *c = bpf_map_lookup_elem(&conversations, &address);

	return c && c->ends == ends_of(sk) ? c : NULL;
}

/* A thread has sent or received on sk, or has connected it. */
static __always_inline void note_exchange(struct sock *sk, __u8 operation, __u64 now)
{
	__u64 address = (__u64)sk;
	struct conversation new = {}, *c;

	if (is_passive(sk, family_of(sk)))
		return;
	c = conversation_of(sk);
	if (!c)
		c = &new;
	if (operation == OPERATION_SEND)
		c->sent_ns = now;
	else
		c->received_ns = now;
	if (c != &new)
		return;
	new.ends = ends_of(sk);
	bpf_map_update_elem(&conversations, &address, &new, BPF_ANY);
}

/* Whether a thread that finds nothing to receive on sk waits for work. */
static __always_inline bool waits_for_work(struct sock *sk)
{
	struct conversation *c;

	if (is_passive(sk, family_of(sk)))
		return true;
	c = conversation_of(sk);
	return c && c->received_ns >= c->sent_ns;
}

/* When it was asked for an answer after all, by another thread; 0 if it was not. */
static __always_inline __u64 asked_since(struct sock *sk)
{
	struct conversation *c = conversation_of(sk);

	return c ? c->sent_ns : 0;
}
