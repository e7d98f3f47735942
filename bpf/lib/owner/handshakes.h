/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "listener.h"
#include "waiting.h"

/* What is to be credited to the next owner of a listener, by the listener's address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, struct pending);
} handshakes SEC(".maps");

/* Credits to the owner of a listener what was kept for it. */
static __always_inline void settle_listener(__u64 address, __u64 number)
{
	struct pending *p = bpf_map_lookup_elem(&handshakes, &address);

	if (p)
		credit(p, number);
}

/* Makes a process the owner of a listener. */
static __always_inline void give_listener(__u64 address, const struct listener *to)
{
	__u32 alive = 0;

	bpf_map_update_elem(&deaths, &to->who, &alive, BPF_NOEXIST); /* before anyone asks */
	bpf_map_update_elem(&listeners, &address, to, BPF_ANY);
	settle_listener(address, to->number);
}

/* The subflow of an MPTCP listener, on which its handshakes are; 0 if there is none. */
static __always_inline __u64 subflow_of_listener(__u64 address)
{
	struct mptcp_sock *mptcp = (struct mptcp_sock *)address;

	if (!bpf_core_field_exists(mptcp->first) ||
	    BPF_CORE_READ((struct sock *)address, sk_protocol) != IPPROTO_MPTCP)
		return 0;
	return (__u64)BPF_CORE_READ(mptcp, first);
}

/* The same for all sockets by which it listens. */
static __always_inline void give_listeners(__u64 address, const struct listener *to)
{
	give_listener(address, to);
	address = subflow_of_listener(address);
	if (address)
		give_listener(address, to);
}

/*
 * A process uses a connection of a listener. If the listener's process has ended, the
 * listener now belongs to this one.
 */
__noinline int use_listener(__u64 address, __u64 number, const struct instance *who)
{
	struct listener *l, to = { .number = number };

	l = bpf_map_lookup_elem(&listeners, &address);
	if (!who || !l || !is_orphan(l))
		return 0;
	to.who = *who;
	give_listeners(address, &to);
	return 0;
}

/* Keeps c until the listener has an owner again; false when there is no room. */
__noinline int keep_handshake(__u64 address, const struct traffic_key *key, const struct count *c)
{
	struct pending *p = bpf_map_lookup_elem(&handshakes, &address);
	struct listener *l;
	bool kept = false;

	if (!key || !c)
		return false;
	if (!p) {
		bpf_map_update_elem(&handshakes, &address, &nothing_waits, BPF_NOEXIST);
		p = bpf_map_lookup_elem(&handshakes, &address);
	}
	for (int i = 0; i < WAITING_PARTS && p && !kept; i++)
		kept = keep_in_part(&p->parts[i], key, c);
	if (!kept)
		return false;
	add_to_account(key->netns, key->ifindex, ACCOUNT_WAITING, key->direction, c);
	__sync_fetch_and_add(&p->since_ns, 0); /* so that either we see the new owner, or the new owner sees this */
	l = bpf_map_lookup_elem(&listeners, &address);
	if (l && !is_orphan(l))
		credit(p, l->number);
	return true;
}

/*
 * The account for a packet of a listener. If it is ACCOUNT_WAITING the packet is
 * counted already; if it is ACCOUNT_PROCESS it is to be counted for the number in key.
 */
static __always_inline enum account account_of_listener(__u64 address, struct traffic_key *key,
							const struct count *c)
{
	struct listener *l = bpf_map_lookup_elem(&listeners, &address);

	if (!l)
		return ACCOUNT_REQUEST;
	if (is_orphan(l))
		return keep_handshake(address, key, c) ? ACCOUNT_WAITING : ACCOUNT_REQUEST;
	key->number = l->number;
	return ACCOUNT_PROCESS;
}
