/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/current.h"
#include "ids.h"

/*
 * The last context of an exchange (a request and its answer) on a TCP connection. It is needed
 * because the answer often leaves after the span has ended, and because a drop has no thread. The
 * key is the socket's cookie, which no later socket gets.
 */
struct exchange {
	struct context context;
	__u64 check;   /* a checksum of the ids, as two threads may write at the same time */
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 start_ns; /* when the process of this context started */
	__u32 pid;
	__u32 direction; /* enum head_reader: the direction of the last message */
	__u32 multiplexed; /* messages on this connection belong to many requests at once */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct exchange);
} exchanges SEC(".maps");

const volatile __u64 socket_ttl_ns = 30000000000ULL;

static __always_inline __u64 check_of(const struct context *c)
{
	const __u64 *trace = (const __u64 *)c->trace_id, *span = (const __u64 *)c->span_id;

	return trace[0] ^ trace[1] * 3 ^ span[0] * 5;
}

/* Sets c to the context of an exchange, if that is complete and not too old. */
static __always_inline bool recall(struct context *c, const struct exchange *e, __u64 now)
{
	__u64 check = e->check;

	*c = e->context;
	if (now - e->time_ns > socket_ttl_ns) {
		count_context(REFUSED_EXPIRED);
		c->source = CONTEXT_NONE;
	} else if (check_of(c) != check || !is_valid_context(c)) {
		count_context(REFUSED_INVALID);
		c->source = CONTEXT_NONE;
	}
	if (!c->source)
		return false;
	c->source = CONTEXT_SOCKET;
	c->link = 1;
	return true;
}

/* Whether the running process moved the message with the context. */
static __always_inline bool is_own_exchange(const struct exchange *e)
{
	return e->pid == THIS_TASK(tgid) && e->start_ns == this_start();
}

/* The context of a socket whose pointer may be invalid, such as that of a dropped packet. */
static __always_inline bool socket_context(struct context *c, struct sock *sk)
{
	__u64 cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	struct exchange *e = cookie ? bpf_map_lookup_elem(&exchanges, &cookie) : NULL;

	return e && !e->multiplexed && recall(c, e, bpf_ktime_get_boot_ns());
}
