/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"
#include "../packet/headers.h"

/*
 * Packets that a listener loses because its accept queue is full: a SYN, or the ACK that ends a
 * handshake. They are those that ListenOverflows in /proc/net/netstat counts, with one exception:
 * if net.ipv4.tcp_syncookies is 0 a SYN may be lost before, to the queue of half-open connections
 * (TCPReqQFullDrop).
 *
 * Source: tcp_conn_request and tcp_v4_syn_recv_sock.
 */

static __always_inline bool accept_queue_is_full(struct bpf_sock *listener)
{
	struct sock *sk = (struct sock *)bpf_skc_to_tcp_sock(listener);

	return sk && sk->sk_ack_backlog > sk->sk_max_ack_backlog;
}

/*
 * Whether the packet belongs to a half-open connection. A SYN of such a connection is a repeated
 * one, and is answered.
 */
static __always_inline bool is_half_open(struct __sk_buff *ctx, const struct tcp_header *tcp)
{
	bool ipv4 = ctx->protocol == bpf_htons(ETH_P_IP);
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	bool half_open;

	load_tuple(&tuple, ctx, tcp);
	sk = bpf_skc_lookup_tcp(ctx, &tuple, ipv4 ? sizeof(tuple.ipv4) : sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	half_open = sk->state == STATE_NEW_SYN_RECV;
	bpf_sk_release(sk);
	return half_open;
}

/*
 * The last ACK that this CPU passed to a listener with a full accept queue. Such an ACK reaches
 * kfree_skb next, on the same CPU, and only there it is known whether it was lost to the queue.
 */
struct late_ack {
	__u64 skb;
	__u64 segment; /* ports and sequence number, as the skb's memory is soon used for another packet */
	__u8 half_open;
	__u8 pad[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct late_ack);
} late_acks SEC(".maps");

static __always_inline void remember_ack(struct __sk_buff *ctx, const struct tcp_header *tcp, bool half_open)
{
	__u32 zero = 0;
	struct late_ack *ack = bpf_map_lookup_elem(&late_acks, &zero);

	if (!ack)
		return;
	ack->skb = (__u64)ctx; /* the context of the program is the struct sk_buff */
	__builtin_memcpy(&ack->segment, tcp, sizeof(ack->segment));
	ack->half_open = half_open;
}

/*
 * Whether skb is the ACK that was remembered. half_open tells whether it would end a known
 * handshake, or else may be the answer to a SYN cookie.
 */
static __always_inline bool is_late_ack(struct sk_buff *skb, bool half_open)
{
	__u32 zero = 0;
	struct late_ack *ack = bpf_map_lookup_elem(&late_acks, &zero);
	__u64 segment = 0;

	if (!ack || ack->skb != (__u64)skb || ack->half_open != half_open)
		return false;
	bpf_probe_read_kernel(&segment, sizeof(segment), skb->head + skb->transport_header);
	return segment == ack->segment;
}
