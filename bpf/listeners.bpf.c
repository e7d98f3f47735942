/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * listeners - which TCP sockets listen, whose they are, and how many connections wait.
 *
 * Hooks:   fexit inet_csk_listen_start, fentry inet_csk_listen_stop
 *                                       a socket begins to listen, and stops
 *          tp_btf inet_sock_set_state   the same if functions cannot be traced, at the cost of
 *                                       a run for each step of each connection
 *          iter task_file               listeners older than nettap, at start
 *          a run, or iter bpf_map_elem  where each listens and what waits, at each reading
 *            before Linux 5.13
 * Output:  map listening, one entry for each listener; ring endings, one record for each
 *          that has ended.
 * Counts:  only what user space cannot count: it knows what it has read.
 * Loss:    STAT_LOST_MAP_FULL if there are too many at a time. STAT_LOST_RING_FULL if user
 *          space is too slow: both the beginning and the end of a listener that it did not
 *          know are lost. The end of one that it knew it notices at the next reading.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/accepts/listening.h"
#include "lib/kernel/files.h"
#include "lib/program/selftest.h"
#include "lib/program/stats.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_iter__bpf_map_elem {
	void *key;
	void *value;
};

#pragma clang attribute pop

#define EEXIST 17

/* Whether the end of a listener is to be reported. */
const volatile bool with_endings;

/* Counts changes that user space learns of only by a survey. */
volatile __u64 news;

struct ending {
	struct listening listening;
	__u64 socket; /* its key in map listening */
	__u64 closed_ns; /* CLOCK_BOOTTIME */
};

/* Room for 2,000 records. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
	__type(value, struct ending);
} endings SEC(".maps");

static __always_inline void lose(enum stat why, __u64 events)
{
	count_stats(STAT_SEEN, events);
	count_stats(why, events);
}

static __always_inline void open(struct sock *sk)
{
	struct listening l = { .opened_ns = bpf_ktime_get_boot_ns() };

	if (enter_listener(sk, &l, (struct task_struct *)bpf_get_current_task(), BPF_ANY))
		lose(STAT_LOST_MAP_FULL, 1);
	else
		__sync_fetch_and_add(&news, 1);
}

/* Reports the end of a listener; false if user space has to notice it by a survey. */
static __always_inline bool report_end(struct sock *sk, const struct listening *l)
{
	struct ending *e = bpf_ringbuf_reserve(&endings, sizeof(*e), 0);

	if (!e) {
		if (!l->surveyed)
			lose(STAT_LOST_RING_FULL, 2);
		return false;
	}
	e->listening = *l;
	look(&e->listening, sk);
	e->socket = (__u64)sk;
	e->closed_ns = bpf_ktime_get_boot_ns();
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return true;
}

static __always_inline void close(struct sock *sk)
{
	__u64 address = (__u64)sk;
	struct listening *l = bpf_map_lookup_elem(&listening, &address);
	bool told = true;

	if (!l)
		return;
	if (with_endings && is_found(sk)) /* or it did not get its port */
		told = report_end(sk, l);
	bpf_map_delete_elem(&listening, &address); /* after the report: an entry that is gone has been reported */
	if (!told)
		__sync_fetch_and_add(&news, 1);
}

static __always_inline bool is_listening(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_state) == STATE_LISTEN && is_found(sk);
}

bool fired_see_begin;

/* An MPTCP listener has a TCP socket that listens for it. That one is recorded, here as in the next programs. */
SEC("fexit/inet_csk_listen_start")
int BPF_PROG(see_begin, struct sock *sk)
{
	if (is_enabled(&fired_see_begin) && is_plain_tcp(sk, false) && is_listening(sk)) /* or it did not get its port */
		open(sk);
	return 0;
}

bool fired_see_end;

SEC("fentry/inet_csk_listen_stop")
int BPF_PROG(see_end, struct sock *sk)
{
	if (is_enabled(&fired_see_end) && is_plain_tcp(sk, false))
		close(sk);
	return 0;
}

bool fired_see_listener;

/*
 * A new connection is a copy of its listener and is in the state LISTEN too. But it does not leave
 * that state in this way, and it is not in the map.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(see_listener, struct sock *sk, int old, int new)
{
	if (!is_enabled(&fired_see_listener))
		return 0;
	if (new != STATE_LISTEN && (old != STATE_LISTEN || new != STATE_CLOSE))
		return 0;
	if (!is_plain_tcp(sk, false))
		return 0;
	if (new == STATE_LISTEN)
		open(sk);
	else
		close(sk);
	return 0;
}

SEC("iter/task_file")
int find_listeners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct listening l = {};
	__u64 address;
	struct sock *sk;
	long error;

	if (!task || !file)
		return 0;
	sk = sock_of_file(file);
	if (!sk || !is_tcp(sk, false))
		return 0;
	sk = tcp_of(sk);
	if (!sk || !is_listening(sk))
		return 0;
	error = enter_listener(sk, &l, task, BPF_NOEXIST); /* if several processes hold it, the first */
	if (error && error != -EEXIST)
		lose(STAT_LOST_MAP_FULL, 1);
	address = (__u64)sk;
	if (!error && !is_listening(sk)) /* it has ended meanwhile, and no program saw that */
		bpf_map_delete_elem(&listening, &address);
	return 0;
}

static __always_inline void survey(struct listening *l, struct sock *sk)
{
	if (!is_listening(sk)) {
		l->missing++;
		return;
	}
	look(l, sk);
	l->surveyed = 1;
	l->missing = 0;
}

static long survey_listener(void *map, const __u64 *address, struct listening *l, void *unused)
{
	survey(l, (struct sock *)*address);
	return 0;
}

SEC("raw_tp/run")
int survey_listeners(void *ctx)
{
	bpf_for_each_map_elem(&listening, survey_listener, NULL, 0);
	return 0;
}

/* before Linux 5.13 */
SEC("iter/bpf_map_elem")
int survey_listeners_5_12(struct bpf_iter__bpf_map_elem *ctx)
{
	struct listening *l = ctx->value;
	__u64 *address = ctx->key;

	if (l && address)
		survey(l, (struct sock *)*address);
	return 0;
}
