/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * refusals - attempts to connect over TCP that this machine refused.
 *
 * Hooks:   tp_btf kfree_skb          a SYN meets no socket. The tracepoint has grown, so
 *                                    there are two programs
 *          fentry tcp_conn_request   a SYN meets a listener whose accept queue is full;
 *          kprobe tcp_conn_request   else the same
 * Output:  maps refused_even and refused_odd, one entry a peer and port, one of which
 *          user space reads and empties while the other is counted into.
 * Counts:  SYNs, repeated ones too: each is an attempt.
 * Loss:    none: what finds no place is counted without peer and port.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/packet/headers.h"
#include "lib/program/selftest.h"
#include "lib/accepts/refused.h"
#include "lib/kernel/registers.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 reason_no_socket;

/* Where the kernel gives no reasons: the code of tcp_v4_rcv and tcp_v6_rcv. */
const volatile __u64 receive_begins[2], receive_ends[2];

static __always_inline bool is_in_receive(__u64 location)
{
	return (location >= receive_begins[0] && location < receive_ends[0]) ||
	       (location >= receive_begins[1] && location < receive_ends[1]);
}

/* Fills the addresses of an IP packet that came in; false if there are none to be read. */
static __always_inline bool read_addresses(struct refused_key *key, struct sk_buff *skb)
{
	__u16 type = bpf_ntohs(BPF_CORE_READ(skb, protocol));
	__u32 network = BPF_CORE_READ(skb, network_header);
	unsigned char *head = BPF_CORE_READ(skb, head);
	__be32 ipv4[2]; /* source, destination */

	if (type == ETH_P_IPV6)
		return !bpf_probe_read_kernel(key->peer_address, 16, head + network + 8) &&
		       !bpf_probe_read_kernel(key->local_address, 16, head + network + 24);
	if (type != ETH_P_IP || bpf_probe_read_kernel(ipv4, sizeof(ipv4), head + network + 12))
		return false;
	key->peer_address[10] = key->peer_address[11] = key->local_address[10] = key->local_address[11] = 0xff;
	*(__be32 *)&key->peer_address[12] = ipv4[0];
	*(__be32 *)&key->local_address[12] = ipv4[1];
	return true;
}

/* The beginning of a TCP segment. */
struct segment {
	__be16 source, dest;
	__u8 skipped[9];
	__u8 flags;
};

#define OPENING 0x02     /* SYN */
#define NOT_OPENING 0x15 /* FIN, RST, ACK */

static __always_inline bool is_opening(struct segment *segment, struct sk_buff *skb)
{
	unsigned char *head = BPF_CORE_READ(skb, head);
	__u32 offset = BPF_CORE_READ(skb, transport_header);

	return !bpf_probe_read_kernel(segment, sizeof(*segment), head + offset) &&
	       (segment->flags & (OPENING | NOT_OPENING)) == OPENING;
}

static __always_inline void refuse_packet(struct sk_buff *skb, enum refusal refusal, struct net *net)
{
	struct refused_key key = { .refusal = refusal };
	struct segment segment;

	if (!is_opening(&segment, skb) || !read_addresses(&key, skb))
		return;
	key.port = bpf_ntohs(segment.dest);
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

/* The kernel makes the same comparison next. */
static __always_inline void refuse_if_full(struct sock *listener, struct sk_buff *skb)
{
	if (BPF_CORE_READ(listener, sk_ack_backlog) > BPF_CORE_READ(listener, sk_max_ack_backlog))
		refuse_packet(skb, REFUSED_QUEUE_FULL, BPF_CORE_READ(listener, __sk_common.skc_net.net));
}

bool fired_see_full_queue;

SEC("fentry/tcp_conn_request")
int BPF_PROG(see_full_queue, void *operations, void *of_family, struct sock *listener, struct sk_buff *skb)
{
	if (!is_enabled(&fired_see_full_queue))
		return 0;
	refuse_if_full(listener, skb);
	return 0;
}

bool fired_probe_full_queue;

SEC("kprobe/tcp_conn_request")
int probe_full_queue(struct pt_regs *ctx)
{
	if (!is_enabled(&fired_probe_full_queue))
		return 0;
	refuse_if_full(third_argument(ctx), (struct sk_buff *)fourth_argument(ctx));
	return 0;
}
