/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "verifier.h"

/*
 * The addresses of both ends of a socket's connection. Each has 16 bytes, IPv4 as ::ffff:a.b.c.d.
 * The caller has set them to 0. known tells whether the pointer has its type for the verifier.
 */
static __always_inline void note_addresses(__u8 *local, __u8 *peer, struct sock *sk, bool known)
{
	if (FIELD_OF(sk, __sk_common.skc_family) == AF_INET6) {
		if (known) {
			COPY_WORDS(local, sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8, 16);
			COPY_WORDS(peer, sk->__sk_common.skc_v6_daddr.in6_u.u6_addr8, 16);
		} else {
			bpf_probe_read_kernel(local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
			bpf_probe_read_kernel(peer, 16, &sk->__sk_common.skc_v6_daddr);
		}
	} else {
		local[10] = local[11] = 0xff;
		peer[10] = peer[11] = 0xff;
		*(__be32 *)&local[12] = FIELD_OF(sk, __sk_common.skc_rcv_saddr);
		*(__be32 *)&peer[12] = FIELD_OF(sk, __sk_common.skc_daddr);
	}
}

/*
 * The port in host byte order. skc_num cannot be used: it is 0 once the peer has reset the
 * connection.
 */
static __always_inline __u16 local_port_of(struct sock *sk)
{
	return bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

static __always_inline __u16 peer_port_of(struct sock *sk)
{
	return bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
}
