/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * places - what is attached to the tracepoints where two objects have a program each, unless the first of them is.
 *
 * Hooks:   tp_btf sock_send_length     owner, trace contexts
 *          tp_btf sock_recv_length     the same
 *          tp_btf net_dev_start_xmit   traffic, calls
 *          tp_btf netif_receive_skb    the same
 *          tp_btf sys_exit             calls, accepts
 * Rule:    No run of one of these interrupts another run of it on the same CPU, which the kernel would
 *          leave out, and with it both programs. At other tracepoints, such as kfree_skb and
 *          inet_sock_set_state, a soft interrupt may. So might threads with PREEMPT_RT, where this is not
 *          used, and from Linux 7.0 on where bottom halves are on: there the third and fourth are left.
 * Needs:   BTF, Linux 6.3: before 6.0 programs on arm64 that have functions cannot jump to others.
 */
#include "lib/program/place.h"

#define PLACE(name, tracepoint)                    \
	struct place name SEC(".maps");            \
                                                   \
	SEC("tp_btf/" #tracepoint)                 \
	int reach_##name(void *ctx)                \
	{                                          \
		bpf_tail_call(ctx, &name, FIRST);  \
		bpf_tail_call(ctx, &name, SECOND); \
		return 0;                          \
	}

PLACE(at_send, sock_send_length)
PLACE(at_receive, sock_recv_length)
PLACE(at_transmit, net_dev_start_xmit)
PLACE(at_arrival, netif_receive_skb)
PLACE(at_exit, sys_exit)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
