/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/verifier.h"

static __always_inline bool is_tcp(struct sock *sk, bool known)
{
	__u16 family = FIELD_OF(sk, __sk_common.skc_family);
	__u16 protocol = FIELD_OF(sk, sk_protocol);

	return (family == AF_INET || family == AF_INET6) &&
	       (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

/* The first subflow of an MPTCP socket, which is a TCP socket; any other socket itself. */
static __always_inline struct sock *tcp_of(struct sock *sk)
{
	if (bpf_core_type_exists(struct mptcp_sock) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP)
		return BPF_CORE_READ((struct mptcp_sock *)sk, first);
	return sk;
}

/* MPTCP sockets have another protocol, and TCP sockets of their own. */
static __always_inline bool is_plain_tcp(struct sock *sk, bool known)
{
	return FIELD_OF(sk, sk_protocol) == IPPROTO_TCP;
}

struct tcp_sock___sequence {
	__u32 snd_una;
	__u64 bytes_acked;
} __attribute__((preserve_access_index));

/* The difference stays the same while the connection lives, since both fields grow together. */
static __always_inline __u32 first_sequence_of(struct tcp_sock *sk, bool known)
{
	struct tcp_sock___sequence *tcp = (struct tcp_sock___sequence *)sk;

	return FIELD_OF(tcp, snd_una) - (__u32)FIELD_OF(tcp, bytes_acked);
}

/* Whether a connection that leaves a state has been established. */
static __always_inline bool was_established(int state)
{
	switch (state) {
	case STATE_CLOSE:
	case STATE_SYN_SENT:
	case STATE_SYN_RECV:
	case STATE_NEW_SYN_RECV:
	case STATE_LISTEN:
		return false;
	}
	return true;
}
