/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * refusals - attempts to connect over TCP that this machine refused.
 *
 * Hooks:   tp_btf kfree_skb          a SYN meets no socket. The tracepoint has grown, so
 *                                    there are two programs
 *          fentry tcp_conn_request   a SYN meets a listener whose accept queue is full;
 *          kprobe tcp_conn_request   the same if functions cannot be traced
 * Output:  maps refused_even and refused_odd, one entry for each peer and port. User space
 *          reads and empties one of them while the programs count into the other.
 * Counts:  SYNs, including repeated ones: each is an attempt.
 * Loss:    none: an attempt that finds no place is counted without peer and port.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/kernel/verifier.h"
#include "lib/packet/headers.h"
#include "lib/program/selftest.h"
#include "lib/accepts/refused.h"
#include "lib/kernel/registers.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 reason_no_socket;

/* The code of tcp_v4_rcv and tcp_v6_rcv, for kernels that give no reasons. */
const volatile __u64 receive_begins[2], receive_ends[2];

static __always_inline bool is_in_receive(__u64 location)
{
	return (location >= receive_begins[0] && location < receive_ends[0]) ||
	       (location >= receive_begins[1] && location < receive_ends[1]);
}

static __always_inline void refuse_packet(struct sk_buff *skb, enum refusal refusal, struct net *net)
{
	struct refused_key key = { .refusal = refusal };
	struct tcp_header tcp;

	if (!probe_tcp_header(&tcp, skb) || !is_syn(&tcp) || !read_addresses(key.peer_address, key.local_address, skb))
		return;
	key.port = bpf_ntohs(tcp.dest);
	key.netns_inode = BPF_CORE_READ(net, ns.inum);
	refuse(&key);
}

bool fired_see_closed_port;

/* from 5.17 */
SEC("tp_btf/kfree_skb")
int BPF_PROG(see_closed_port, struct sk_buff *skb, void *location, __u32 reason)
{
	if (!is_enabled(&fired_see_closed_port))
		return 0;
	if (reason == reason_no_socket && read_transport(skb, bpf_ntohs(skb->protocol)) == IPPROTO_TCP)
		refuse_packet(skb, REFUSED_CLOSED_PORT, BPF_CORE_READ(skb, dev, nd_net.net));
	return 0;
}

bool fired_see_closed_port_bare;

/* up to 5.16 */
SEC("tp_btf/kfree_skb")
int BPF_PROG(see_closed_port_bare, struct sk_buff *skb, void *location)
{
	if (!is_enabled(&fired_see_closed_port_bare))
		return 0;
	if (is_in_receive((__u64)location))
		refuse_packet(skb, REFUSED_CLOSED_PORT, BPF_CORE_READ(skb, dev, nd_net.net));
	return 0;
}

/* The kernel makes the same comparison next. known tells whether the listener has its type for the verifier. */
static __always_inline void refuse_if_full(struct sock *listener, struct sk_buff *skb, bool known)
{
	if (FIELD_OF(listener, sk_ack_backlog) > FIELD_OF(listener, sk_max_ack_backlog))
		refuse_packet(skb, REFUSED_QUEUE_FULL, BPF_CORE_READ(listener, __sk_common.skc_net.net));
}

bool fired_see_full_queue;

SEC("fentry/tcp_conn_request")
int BPF_PROG(see_full_queue, void *operations, void *of_family, struct sock *listener, struct sk_buff *skb)
{
	if (!is_enabled(&fired_see_full_queue))
		return 0;
	refuse_if_full(listener, skb, true);
	return 0;
}

bool fired_probe_full_queue;

SEC("kprobe/tcp_conn_request")
int probe_full_queue(struct pt_regs *ctx)
{
	if (!is_enabled(&fired_probe_full_queue))
		return 0;
	refuse_if_full(third_argument(ctx), (struct sk_buff *)fourth_argument(ctx), false);
	return 0;
}
