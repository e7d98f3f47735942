/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../process/process.h"
#include "../program/quota.h"
#include "filter.h"
#include "tree.h"

/*
 * How long programs waited for something to read, by process and port, if user space asks for
 * it. Each wait is counted here, whether or not it is reported as a span. In Go these are in
 * internal/calls/durations.go.
 */
bool with_durations;

#define DURATION_BOUNDS 16

const volatile __u64 duration_bounds[DURATION_BOUNDS] = {}; /* the upper bounds of all buckets but the last, in ns */

/* What the program waited for: the network and the peer, or itself. */
enum wait_part {
	WAIT_PART_PEER,
	WAIT_PART_LOCAL,
	WAIT_PARTS,
};

/* Not used. With a variable of this type, the enum is in BTF, and bpf2go gives Go its constants. */
const volatile enum wait_part last_part = WAIT_PART_LOCAL;

struct duration_key {
	struct process process;
	__u16 port;  /* host byte order: the peer's of a client, the local one of a server; 0: there is none */
	__u8 serves; /* the program is a server: it waits for requests */
	__u8 pad[5];
};

struct distribution {
	__u64 sum_ns;
	__u64 counts[DURATION_BOUNDS + 1];
};

struct durations {
	struct process_seen seen;
	__u64 user; /* on whose quota the entry is: see user_of */
	struct distribution part[WAIT_PARTS];
};

const struct durations no_durations = {};

/* All elements are allocated at the start: before Linux 6.1 a kprobe must not allocate. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* user space sets the size if durations are counted */
	__type(key, struct duration_key);
	__type(value, struct durations);
} wait_durations SEC(".maps");

/* How many entries each user has, as anyone may run any number of processes. */
struct share_map wait_shares SEC(".maps");

__u64 waits_counted, waits_without_place, waits_without_share;

static __always_inline void count_duration(struct distribution *d, __u64 ns)
{
	__u32 i;

	for (i = 0; i < DURATION_BOUNDS; i++) {
		if (ns <= duration_bounds[i])
			break;
	}
	__sync_fetch_and_add(&d->sum_ns, ns);
	__sync_fetch_and_add(&d->counts[i], 1);
}

#define USER_NAMESPACES 33 /* that can be inside of each other */

/*
 * The user that is accountable for the running process, plus 1. In a user namespace somebody can
 * have many user ids, so there it is who made that namespace, or the outermost one that root has not
 * made.
 */
static __always_inline __u64 user_of(const struct process *p)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct user_namespace *namespace = BPF_CORE_READ(task, group_leader, cred, user_ns), *parent;
	__u32 user = p->real_uid, owner;

	for (int i = 0; i < USER_NAMESPACES; i++) {
		parent = BPF_CORE_READ(namespace, parent);
		if (!parent)
			break;
		owner = BPF_CORE_READ(namespace, owner.val);
		if (owner)
			user = owner;
		namespace = parent;
	}
	return user + 1ULL;
}

/*
 * Adds the entry of a key. NULL, which is counted, if the map is full or the user has used up his
 * part of it.
 */
static __always_inline struct durations *new_durations(const struct duration_key *key)
{
	__u64 user = user_of(&key->process);
	struct durations *d;

	if (!has_place(&wait_shares, user, SHARE_OF_WAITS)) {
		__sync_fetch_and_add(&waits_without_share, 1);
		return NULL;
	}
	/* Another CPU may add it first, so the answer that counts is the second look. */
	if (!bpf_map_update_elem(&wait_durations, key, &no_durations, BPF_NOEXIST))
		take_place(&wait_shares, user, SHARE_OF_WAITS);
	d = bpf_map_lookup_elem(&wait_durations, key);
	if (!d) {
		__sync_fetch_and_add(&waits_without_place, 1);
		return NULL;
	}
	d->user = user;
	see_process(&d->seen, (struct task_struct *)bpf_get_current_task());
	return d;
}

/* Counts a wait of the running process. It is a global function, so that it is verified only once. */
__noinline int count_durations(__u64 socket, bool serves, __u64 peer_ns, __u64 local_ns)
{
	struct sock *sk = (struct sock *)socket;
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	struct duration_key key = { .serves = serves };
	struct durations *d;

	if (!is_wanted_socket(sk))
		return 0;
	if (family == AF_INET || family == AF_INET6)
		key.port = serves ? local_port_of(sk) : peer_port_of(sk);
	key.process = current_process();
	d = bpf_map_lookup_elem(&wait_durations, &key);
	if (!d)
		d = new_durations(&key);
	if (!d)
		return 0;
	__sync_fetch_and_add(&waits_counted, 1);
	if (!serves)
		count_duration(&d->part[WAIT_PART_PEER], peer_ns);
	count_duration(&d->part[WAIT_PART_LOCAL], local_ns);
	return 0;
}
