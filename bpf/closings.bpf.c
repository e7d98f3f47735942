/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * closings - how each TCP connection ended, and what it transferred until then.
 *
 * Hooks:   tp_btf inet_sock_set_state   a connection is established, closed by one side
 *                                       or the other, and gone
 * Output:  ring closings, one record for each connection.
 * Counts:  connections that were established while nettap ran, once each.
 * Loss:    STAT_LOST_MAP_FULL if there are too many at a time, STAT_LOST_RING_FULL if
 *          user space is too slow.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/kernel/address.h"
#include "lib/kernel/current.h"
#include "lib/process/process.h"
#include "lib/program/selftest.h"
#include "lib/program/stats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct minmax_sample {
	__u32 t;
	__u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct tcp_sock___statistics {
	__u32 segs_in;
	__u32 segs_out;
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_acked;
	__u64 bytes_retrans;
	__u32 snd_una;
	__u32 srtt_us; /* eight times the smoothed value */
	__u32 total_retrans;
	struct minmax rtt_min;
};

struct sock_common___flags {
	unsigned long skc_flags; /* of the socket, whose first member it is in */
};

struct sock___ending {
	int sk_err;
};

#pragma clang attribute pop

#define STATE_FIN_WAIT1 4
#define STATE_CLOSE_WAIT 8

#define FIN_RECEIVED (1UL << 1) /* SOCK_DONE in skc_flags; bytes_received counts the FIN as a byte */

/* A connection that is established, or that a local process began. */
struct connection {
	struct process process; /* who connected; pid 0: it came in */
	struct process_seen seen;
	__u64 established_ns; /* CLOCK_BOOTTIME; 0: not yet */
	__u8 closed_here;     /* this end was the first to close */
	__u8 closed_there;
	__u8 pad[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64); /* address of the socket */
	__type(value, struct connection);
} connections SEC(".maps");

struct closing {
	struct connection connection;
	__u64 closed_ns; /* CLOCK_BOOTTIME */
	__u64 bytes_sent;
	__u64 bytes_received;
	__u8 local_address[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 peer_address[16];
	__u32 netns_inode;
	__u32 first_sequence; /* as in struct accept */
	__u32 segments_sent;
	__u32 segments_received;
	__u32 retransmits;
	__u32 smoothed_rtt_us; /* 0: unknown */
	__u32 least_rtt_us;    /* ~0: unknown */
	__s32 error;
	__u16 local_port; /* host byte order */
	__u16 peer_port;
	__u32 pad;
};

/* Room for 8,000 records, as many connections as may end between two collections. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21);
	__type(value, struct closing);
} closings SEC(".maps");

/* The pointers are trusted by the verifier, so the fields are read directly, which is faster than by helper calls. */
static __always_inline void note_statistics(struct closing *c, struct sock *sk, struct tcp_sock___statistics *tcp)
{
	c->bytes_sent = tcp->bytes_sent - tcp->bytes_retrans;
	c->bytes_received = tcp->bytes_received;
	if (c->bytes_received && ((struct sock_common___flags *)sk)->skc_flags & FIN_RECEIVED)
		c->bytes_received--;
	c->first_sequence = tcp->snd_una - (__u32)tcp->bytes_acked;
	c->segments_sent = tcp->segs_out;
	c->segments_received = tcp->segs_in;
	c->retransmits = tcp->total_retrans;
	c->smoothed_rtt_us = tcp->srtt_us >> 3;
	c->least_rtt_us = tcp->rtt_min.s[0].v;
	c->error = ((struct sock___ending *)sk)->sk_err;
}

static __always_inline void note_ends(struct closing *c, struct sock *sk, struct tcp_sock___statistics *tcp)
{
	note_addresses(c->local_address, c->peer_address, sk, true);
	c->netns_inode = sk->__sk_common.skc_net.net->ns.inum;
	c->local_port = bpf_ntohs(((struct inet_sock *)tcp)->inet_sport); /* see local_port_of */
	c->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
}

static __always_inline void report_end(struct sock *sk, const struct connection *connection)
{
	struct tcp_sock___statistics *tcp = (struct tcp_sock___statistics *)bpf_skc_to_tcp_sock(sk);
	struct closing *c;

	count_stat(STAT_SEEN);
	if (!tcp) {
		count_stat(STAT_LOST_UNREADABLE);
		return;
	}
	c = bpf_ringbuf_reserve(&closings, sizeof(*c), 0);
	if (!c) {
		count_stat(STAT_LOST_RING_FULL);
		return;
	}
	/* The fields before bytes_sent are all written below. */
	__builtin_memset(&c->bytes_sent, 0, sizeof(*c) - offsetof(struct closing, bytes_sent));
	c->connection = *connection;
	c->closed_ns = bpf_ktime_get_boot_ns();
	note_statistics(c, sk, tcp);
	note_ends(c, sk, tcp);
	bpf_ringbuf_submit(c, BPF_RB_NO_WAKEUP);
}

/* Records a connection that a process began, or that came in. */
static __always_inline void enter(struct sock *sk, struct connection *connection)
{
	__u64 address = (__u64)sk;

	if (!bpf_map_update_elem(&connections, &address, connection, BPF_ANY))
		return;
	count_stat(STAT_SEEN);
	count_stat(STAT_LOST_MAP_FULL);
}

static __always_inline void end(struct sock *sk)
{
	__u64 address = (__u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &address);

	if (!connection)
		return;
	if (connection->established_ns)
		report_end(sk, connection);
	bpf_map_delete_elem(&connections, &address);
}

/* Records a connection that came in. It may be in a soft interrupt, so the running process is not its process. */
static __always_inline void enter_incoming(struct sock *sk)
{
	struct connection one = { .established_ns = bpf_ktime_get_boot_ns() };

	enter(sk, &one);
}

/* Records a connection that the running process begins: connect() changes the state in the process's context. */
static __always_inline void enter_outgoing(struct sock *sk)
{
	struct connection one = {};

	one.process = running_process();
	see_current(&one.seen, bpf_ktime_get_boot_ns());
	enter(sk, &one);
}

static __always_inline void change(struct sock *sk, int new)
{
	__u64 address = (__u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &address);

	if (new == STATE_ESTABLISHED) {
		if (connection)
			connection->established_ns = bpf_ktime_get_boot_ns();
		else
			enter_incoming(sk);
	} else if (connection && !connection->closed_here && !connection->closed_there) {
		connection->closed_here = new == STATE_FIN_WAIT1;
		connection->closed_there = new == STATE_CLOSE_WAIT;
	}
}

bool fired_see_state;

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(see_state, struct sock *sk, int old, int new)
{
	if (!is_enabled(&fired_see_state) || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	switch (new) {
	case STATE_SYN_SENT:
		enter_outgoing(sk);
		break;
	case STATE_CLOSE:
		end(sk);
		break;
	case STATE_ESTABLISHED:
	case STATE_FIN_WAIT1:
	case STATE_CLOSE_WAIT:
		change(sk, new);
		break;
	}
	return 0;
}
