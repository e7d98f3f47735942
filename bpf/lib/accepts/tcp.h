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
