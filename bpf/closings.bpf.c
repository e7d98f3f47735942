/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * closings - how each TCP connection ended, and what it transferred until then.
 *
 * Hooks:   If functions can be traced, from Linux 5.12 on:
 *          fentry tcp_connect                      a process begins a connection
 *          fentry security_inet_conn_established   such a connection is established
 *          fentry inet_unhash                      a connection ends: it is called just before the
 *                                                  state becomes CLOSE
 *          Otherwise:
 *          tp_btf inet_sock_set_state              all of that, and six more changes of each connection
 * Output:  ring closings, one record for each connection.
 * Counts:  connections that ended while nettap ran, once each, if they were established. Of one
 *          that came in nothing is known before: user space has the record of its accept.
 * Loss:    STAT_LOST_MAP_FULL if processes begin too many at a time, STAT_LOST_RING_FULL if
 *          user space is too slow.
 *          A program that interrupts another run of itself is skipped: see accepts.bpf.c.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/accepts/tcp.h"
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

#define FIN_RECEIVED (1UL << 1) /* SOCK_DONE in skc_flags; bytes_received counts the FIN as a byte */

/* A connection that a local process began. */
struct connection {
	struct process process;
	struct process_seen seen; /* when it connected */
	__u64 established_ns;     /* CLOCK_BOOTTIME; 0: that was not seen */
	__u32 first_sequence;     /* of one in the hash that is established */
	__u32 pad;
};

/* What is first met in one place may be in the other, if two connections share a place. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64); /* address of the socket */
	__type(value, struct connection);
} connections SEC(".maps");

struct place {
	__u64 socket; /* address; 0: the place is free */
	struct connection connection;
};

#define PLACES 16384

/*
 * By the hash that the kernel keeps of a connection's addresses and ports. A hash of BPF takes about 700 instructions to
 * enter, find and remove a connection. It is used for those whose place is taken.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct place);
} places SEC(".maps");

/* How many connections are in the hash while there are places. */
static volatile __u64 displaced;

struct closing {
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
	__u32 last_state;             /* of the socket, which tells who closed first */
	struct connection connection; /* not in the record of a connection that came in */
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
	c->first_sequence = first_sequence_of((struct tcp_sock *)tcp, true);
	c->segments_sent = tcp->segs_out;
	c->segments_received = tcp->segs_in;
	c->retransmits = tcp->total_retrans;
	c->smoothed_rtt_us = tcp->srtt_us >> 3;
	c->least_rtt_us = tcp->rtt_min.s[0].v;
	c->error = ((struct sock___ending *)sk)->sk_err;
}

static __always_inline void note_ends(struct closing *c, struct sock *sk, struct tcp_sock___statistics *tcp)
{
	__builtin_memset(c->local_address, 0, sizeof(c->local_address));
	__builtin_memset(c->peer_address, 0, sizeof(c->peer_address));
	note_addresses(c->local_address, c->peer_address, sk, true);
	c->netns_inode = sk->__sk_common.skc_net.net->ns.inum;
	c->local_port = bpf_ntohs(((struct inet_sock *)tcp)->inet_sport); /* see local_port_of */
	c->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
}

/* Reports the end of a connection, which came in if nothing is known of it. state is the one that it leaves. */
static __always_inline void report_end(struct sock *sk, int state, const struct connection *connection)
{
	struct tcp_sock___statistics *tcp = (struct tcp_sock___statistics *)bpf_skc_to_tcp_sock(sk);
	struct closing *c;

	count_stat(STAT_SEEN);
	if (!tcp) {
		count_stat(STAT_LOST_UNREADABLE);
		return;
	}
	if (connection)
		c = bpf_ringbuf_reserve(&closings, sizeof(*c), 0);
	else
		c = bpf_ringbuf_reserve(&closings, offsetof(struct closing, connection), 0);
	if (!c) {
		count_stat(STAT_LOST_RING_FULL);
		return;
	}
	c->closed_ns = bpf_ktime_get_boot_ns();
	c->last_state = state;
	note_statistics(c, sk, tcp);
	note_ends(c, sk, tcp);
	if (connection)
		c->connection = *connection;
	bpf_ringbuf_submit(c, BPF_RB_NO_WAKEUP);
}

/* Fills in what is known of a connection that the running process begins. */
static __always_inline void note_beginning(struct connection *c)
{
	c->process = running_process();
	see_current(&c->seen, bpf_ktime_get_boot_ns());
	c->established_ns = 0;
}

/* Enters such a connection into the hash. */
static __always_inline bool enter(struct sock *sk)
{
	__u64 address = (__u64)sk;
	struct connection one = {};

	note_beginning(&one);
	if (!bpf_map_update_elem(&connections, &address, &one, BPF_ANY))
		return true;
	count_stat(STAT_SEEN);
	count_stat(STAT_LOST_MAP_FULL);
	return false;
}

static __always_inline __u32 sequence_of(struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp ? first_sequence_of(tcp, true) : 0;
}

/* Of a connection in the hash. */
static __always_inline void note_established(struct sock *sk)
{
	__u64 address = (__u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &address);

	if (!connection)
		return;
	connection->established_ns = bpf_ktime_get_boot_ns();
	connection->first_sequence = sequence_of(sk);
}

/*
 * Whether an entry of the hash is of this connection. If the run was skipped that had to remove it, a later socket may
 * have the same address.
 */
static __always_inline bool is_of(const struct connection *connection, struct sock *sk)
{
	return !connection->established_ns || connection->first_sequence == sequence_of(sk);
}

/* Reports the end of a connection that may be in the hash. The result tells whether it was. */
static __always_inline bool leave(struct sock *sk, int state)
{
	__u64 address = (__u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &address);

	if (!was_established(state))
		;
	else if (connection && is_of(connection, sk))
		report_end(sk, state, connection);
	else
		report_end(sk, state, NULL);
	return connection && !bpf_map_delete_elem(&connections, &address);
}

bool fired_see_state;

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(see_state, struct sock *sk, int old, int new)
{
	if (!is_enabled(&fired_see_state) || !is_plain_tcp(sk, true))
		return 0;
	if (new == STATE_SYN_SENT) /* in the process's context */
		enter(sk);
	else if (new == STATE_ESTABLISHED && old == STATE_SYN_SENT)
		note_established(sk);
	else if (new == STATE_CLOSE && old != STATE_CLOSE)
		leave(sk, old);
	return 0;
}

static __always_inline struct place *place_of(struct sock *sk)
{
	__u32 index = sk->__sk_common.skc_hash % PLACES;

	return bpf_map_lookup_elem(&places, &index);
}

bool fired_see_connect;

SEC("fentry/tcp_connect")
int BPF_PROG(see_connect, struct sock *sk)
{
	struct place *place;

	if (!is_enabled(&fired_see_connect) || !is_plain_tcp(sk, true))
		return 0;
	place = place_of(sk);
	if (place && !__sync_val_compare_and_swap(&place->socket, 0, (__u64)sk))
		note_beginning(&place->connection);
	else if (enter(sk))
		__sync_fetch_and_add(&displaced, 1);
	return 0;
}

bool fired_see_established;

SEC("fentry/security_inet_conn_established")
int BPF_PROG(see_established, struct sock *sk)
{
	struct place *place;

	if (!is_enabled(&fired_see_established) || !is_plain_tcp(sk, true))
		return 0;
	place = place_of(sk);
	if (place && place->socket == (__u64)sk)
		place->connection.established_ns = bpf_ktime_get_boot_ns();
	else if (displaced)
		note_established(sk);
	return 0;
}

bool fired_see_unhash;

SEC("fentry/inet_unhash")
int BPF_PROG(see_unhash, struct sock *sk)
{
	struct place *place;
	int state;

	if (!is_enabled(&fired_see_unhash) || !is_plain_tcp(sk, true))
		return 0;
	state = sk->__sk_common.skc_state;
	place = place_of(sk);
	if (place && place->socket == (__u64)sk) {
		if (was_established(state))
			report_end(sk, state, &place->connection);
		__sync_lock_test_and_set(&place->socket, 0); /* nothing of it is read later */
	} else if (displaced) {
		if (leave(sk, state))
			__sync_fetch_and_add(&displaced, -1);
	} else if (was_established(state)) {
		report_end(sk, state, NULL);
	}
	return 0;
}
