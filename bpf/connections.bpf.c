/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * connections - what becomes of the TCP connections of each process: how many connects
 * succeeded or failed, how many segments were retransmitted, and how long round trips took.
 *
 * Hooks:   If functions can be traced:
 *          fentry security_inet_conn_established   a connect succeeds
 *          fentry tcp_send_synack                  the same, if both sides connect at the same time
 *          fentry inet_unhash                      a connect fails, or a connection ends: it is
 *                                                  called just before the state becomes CLOSE
 *          Otherwise:
 *          tp_btf inet_sock_set_state              all of that, and the other changes of its state
 *          And always:
 *          tp_btf tcp_retransmit_skb               a segment is retransmitted. Since Linux 6.17 the
 *                                                  tracepoint also fires for segments that could
 *                                                  not be sent, so there are two programs
 *          tp_btf tcp_retransmit_synack            a SYN-ACK is retransmitted
 * Output:  map tallies, one entry for each process and each thing that is counted, and array usuals,
 *          which has the most usual of them for processes that have a place there. User space reads
 *          both and removes processes that have ended. The maps of owner.bpf.c say which process
 *          owns a socket.
 * Counts:  each connect and each end once, segments as the kernel's RetransSegs does. A connection
 *          that was restored (TCP_REPAIR) did not connect.
 * Loss:    STAT_LOST_MAP_FULL when there is no room for another entry.
 *          A program that interrupts another run of itself is skipped: see accepts.bpf.c.
 * Needs:   BTF, Linux 5.12.
 */
#include "lib/accepts/tcp.h"
#include "lib/program/selftest.h"
#include "lib/program/stats.h"
#include "lib/owner/changes.h"
#include "lib/owner/whose.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct tcp_skb_cb {
	__u16 tcp_gso_segs;
};

struct tcp_sock___smoothed {
	__u32 srtt_us; /* eight times the smoothed round-trip time */
	__u8 repair : 1; /* the state is set by a program (TCP_REPAIR), and not by a handshake */
};

struct sock___connecting {
	struct socket *sk_socket;
	int sk_err;
};

enum socket_state {
	SOCKET_FREE,
	SOCKET_UNCONNECTED, /* the state until the kernel's connect has sent a SYN */
};

struct socket___connecting {
	enum socket_state state;
};

#pragma clang attribute pop

/* What is counted. */
enum __attribute__((packed)) deed {
	DEED_RETRANSMIT,
	DEED_CONNECT,
	DEED_END,
};

/* Who began a connection. */
enum __attribute__((packed)) role {
	ROLE_UNKNOWN, /* the connection is older than this program */
	ROLE_CLIENT,
	ROLE_SERVER,
};

/* Why a connect failed: an errno of the kernel, or one of these. */
enum failure {
	FAILURE_NONE = 0,
	FAILURE_GIVEN_UP = 10001, /* the program closed the socket before the answer */
	FAILURE_UNKNOWN,          /* the kernel gave up before it sent anything; only connect() returns the reason */
};

struct tally_key {
	__u64 number;         /* of the process, as in struct process_entry; NOBODY: unknown */
	enum failure failure; /* of DEED_CONNECT */
	enum deed deed;
	enum role role; /* of DEED_END */
	__u8 pad[2];
};

#define BOUNDS 15

/* The upper bounds of the ranges of round-trip times. Set by user space. */
const volatile __u32 bounds_us[BOUNDS];

struct tally {
	__u64 count;
	__u64 sum_us;             /* of DEED_END: the sum of the round-trip times */
	__u64 ranges[BOUNDS + 1]; /* of DEED_END: how many were in each range; the last has no upper bound */
};

/* User space sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct tally_key);
	__type(value, struct tally);
} tallies SEC(".maps");

#define PLACES 1024 /* a power of two */

/*
 * The number of the process that has a place. 0: it is free. A number that no process has: user space is freeing it.
 * Processes get their numbers one after the other, so each of as many as there are places has one.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __u64);
} places SEC(".maps");

/* What is usual: connects that succeed, and ends whose role is known. */
struct usual {
	__u64 connects;
	struct tally as_client;
	struct tally as_server;
};

/* What the processes in their places have counted. A place is found in a quarter of the instructions of a hash. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct usual);
} usuals SEC(".maps");

/* What a process in its place has counted. NULL: it has none, or it is not known which process it is. */
static __always_inline struct usual *usual_of(__u64 number)
{
	__u32 index = number >> 32 & (PLACES - 1);
	__u64 *place = bpf_map_lookup_elem(&places, &index);

	if (!place || number == NOBODY)
		return NULL;
	if (*place != number && (*place || __sync_val_compare_and_swap(place, 0, number)))
		return NULL;
	return bpf_map_lookup_elem(&usuals, &index);
}

const struct tally nothing = {};

static __always_inline struct tally *tally_of(const struct tally_key *key, __u64 events)
{
	struct tally *t = bpf_map_lookup_elem(&tallies, key);

	count_stats(STAT_SEEN, events);
	if (t)
		return t;
	/* Another CPU may add it first, so the answer that counts is the second look. */
	bpf_map_update_elem(&tallies, key, &nothing, BPF_NOEXIST);
	t = bpf_map_lookup_elem(&tallies, key);
	if (!t)
		count_stats(STAT_LOST_MAP_FULL, events);
	return t;
}

static __always_inline void count(const struct tally_key *key, __u64 events)
{
	struct tally *t = tally_of(key, events);

	if (t)
		__sync_fetch_and_add(&t->count, events);
}

/*
 * The process that a listener belongs to, as it was read last. To look it up again takes about 250 instructions, at the
 * end of each connection that its process has accepted and not used.
 */
struct heir {
	__u64 number;
	__u64 check; /* number + the listener's address, so that it is of no listener if two CPUs write at the same time */
	__u64 since; /* listener_changes before it was read */
};

#define HEIRS 64 /* a power of two */

static volatile struct heir heirs[HEIRS];

/* The same as heir_of for a socket that comes from a listener and is not used yet. */
static __always_inline __u64 heir_of_listener(const struct owner *owner)
{
	__u64 listener = owner->listener, since = READ_ONCE(listener_changes), number;
	volatile struct heir *heir = &heirs[listener >> 7 & (HEIRS - 1)];

	number = heir->number;
	if (heir->since == since && heir->check == number + listener)
		return number;
	number = number_of_listener(listener);
	if (number == NOBODY)
		return heir_of(owner, 0, 0);
	heir->number = number;
	heir->check = number + listener;
	heir->since = since;
	return number;
}

static __always_inline __u64 number_of_socket(struct sock *sk, const struct owner *owner)
{
	__u64 number;

	if (!with_users && owner && owner->listener && !is_used(READ_ONCE(owner->number)))
		number = heir_of_listener(owner);
	else
		number = number_of_owner(sk, owner);
	return is_beyond(number) ? NOBODY : number;
}

static __always_inline void count_retransmits(struct sock *sk, __u64 segments)
{
	struct tally_key key = { .deed = DEED_RETRANSMIT };

	key.number = number_of_socket(sk, stored_owner(sk));
	count(&key, segments);
}

static __always_inline __u64 segments_of(struct sk_buff *skb)
{
	return BPF_CORE_READ((struct tcp_skb_cb *)skb->cb, tcp_gso_segs);
}

bool fired_see_retransmit;

/* For Linux up to 6.16. */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(see_retransmit, struct sock *sk, struct sk_buff *skb)
{
	if (is_enabled(&fired_see_retransmit))
		count_retransmits(sk, segments_of(skb));
	return 0;
}

bool fired_see_retransmit_result;

/* For Linux 6.17 and later. */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(see_retransmit_result, struct sock *sk, struct sk_buff *skb, int error)
{
	if (is_enabled(&fired_see_retransmit_result) && !error)
		count_retransmits(sk, segments_of(skb));
	return 0;
}

bool fired_see_answer_again;

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(see_answer_again, struct sock *listener)
{
	if (is_enabled(&fired_see_answer_again))
		count_retransmits(listener, 1);
	return 0;
}

/*
 * Why a connect failed. It is called when the socket's state changes to TCP_CLOSE. The kernel
 * may not have set an error by then.
 */
static __always_inline enum failure failure_of(struct sock *sk)
{
	struct sock___connecting *connecting = (struct sock___connecting *)sk;
	struct socket___connecting *socket;
	int error;

	error = BPF_CORE_READ(connecting, sk_err);
	if (error)
		return error;
	if (BPF_CORE_READ(sk, sk_shutdown))
		return FAILURE_GIVEN_UP;
	socket = (struct socket___connecting *)BPF_CORE_READ(connecting, sk_socket);
	return BPF_CORE_READ(socket, state) == SOCKET_UNCONNECTED ? FAILURE_UNKNOWN : FAILURE_GIVEN_UP;
}

static __always_inline void count_connect(struct sock *sk, enum failure failure)
{
	struct tally_key key = { .deed = DEED_CONNECT, .failure = failure };
	struct usual *usual = NULL;

	key.number = number_of_socket(sk, stored_owner(sk));
	if (failure == FAILURE_NONE)
		usual = usual_of(key.number);
	if (!usual) {
		count(&key, 1);
		return;
	}
	count_stat(STAT_SEEN);
	__sync_fetch_and_add(&usual->connects, 1);
}

static __always_inline enum role role_of(struct sock *sk, const struct owner *owner)
{
	if (!owner)
		return ROLE_UNKNOWN;
	if (owner->connects)
		return ROLE_CLIENT;
	return owner->listener ? ROLE_SERVER : ROLE_UNKNOWN;
}

_Static_assert(!((BOUNDS + 1) & BOUNDS), "the number of ranges is not a power of two");

/* In which range a round-trip time is. */
static __always_inline __u32 range_of(__u32 us)
{
	__u32 range = 0;

	for (int step = (BOUNDS + 1) / 2; step; step /= 2)
		if (us > bounds_us[range + step - 1])
			range += step;
	return range;
}

static __always_inline void add_end(struct tally *t, __u32 round_trip_us)
{
	__u32 range = range_of(round_trip_us);

	__sync_fetch_and_add(&t->count, 1);
	__sync_fetch_and_add(&t->sum_us, round_trip_us);
	if (range <= BOUNDS)
		__sync_fetch_and_add(&t->ranges[range], 1);
}

static __always_inline void count_end(struct sock *sk)
{
	struct tcp_sock___smoothed *tcp = (struct tcp_sock___smoothed *)bpf_skc_to_tcp_sock(sk);
	struct tally_key key = { .deed = DEED_END };
	struct usual *usual = NULL;
	struct owner *owner;
	__u32 round_trip_us;
	struct tally *t;

	round_trip_us = tcp ? tcp->srtt_us >> 3 : 0;
	if (!round_trip_us)
		return; /* no round trip was measured */
	owner = stored_owner(sk);
	key.role = role_of(sk, owner);
	key.number = number_of_socket(sk, owner);
	if (key.role != ROLE_UNKNOWN)
		usual = usual_of(key.number);
	if (usual) {
		count_stat(STAT_SEEN);
		t = key.role == ROLE_CLIENT ? &usual->as_client : &usual->as_server;
	} else {
		t = tally_of(&key, 1);
	}
	if (t)
		add_end(t, round_trip_us);
}

/* A socket's state becomes CLOSE. state is the one that it leaves. */
static __always_inline void count_close(struct sock *sk, int state)
{
	if (state == STATE_SYN_SENT)
		count_connect(sk, failure_of(sk));
	else if (was_established(state))
		count_end(sk);
}

bool fired_see_established;

SEC("fentry/security_inet_conn_established")
int BPF_PROG(see_established, struct sock *sk)
{
	if (is_enabled(&fired_see_established) && is_plain_tcp(sk, true))
		count_connect(sk, FAILURE_NONE);
	return 0;
}

bool fired_see_crossing;

/* A SYN has come instead of a SYN-ACK, which is sent now. */
SEC("fentry/tcp_send_synack")
int BPF_PROG(see_crossing, struct sock *sk)
{
	if (is_enabled(&fired_see_crossing))
		count_connect(sk, FAILURE_NONE);
	return 0;
}

bool fired_see_unhash;

SEC("fentry/inet_unhash")
int BPF_PROG(see_unhash, struct sock *sk)
{
	if (is_enabled(&fired_see_unhash) && is_plain_tcp(sk, true))
		count_close(sk, sk->__sk_common.skc_state);
	return 0;
}

/* Whether the connection of a socket is restored. */
static __always_inline bool is_restored(struct sock *sk)
{
	struct tcp_sock___smoothed *tcp = (struct tcp_sock___smoothed *)bpf_skc_to_tcp_sock(sk);

	return tcp && BITS_OF(tcp, repair);
}

bool fired_see_change;

/*
 * Any change from SYN_SENT but that to CLOSE is a connect that succeeded. If two sockets connect
 * to each other at the same time, the change is to SYN_RECV.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(see_change, struct sock *sk, int old, int new)
{
	if (!is_enabled(&fired_see_change))
		return 0;
	if ((old != STATE_SYN_SENT && new != STATE_CLOSE) || !is_plain_tcp(sk, true))
		return 0;
	if (new == STATE_CLOSE)
		count_close(sk, old);
	else if (!is_restored(sk))
		count_connect(sk, FAILURE_NONE);
	return 0;
}
