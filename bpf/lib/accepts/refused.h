/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * Attempts to connect that were refused, counted by peer and port. The sum is exact, and memory is
 * bounded whoever sends what. A peer that tries many ports is counted without the port, and a port
 * that many peers try is counted without the peers. What finds no place at all is counted in the
 * one entry that has neither.
 */

enum refusal : __u8 {
	REFUSED_CLOSED_PORT = 1,
	REFUSED_QUEUE_FULL = 2,
};

struct refused_key {
	__u8 local_address[16]; /* IPv4 as ::ffff:a.b.c.d; zeros: any */
	__u8 peer_address[16];  /* likewise */
	__u32 netns_inode;      /* 0: not told apart */
	__u16 port;             /* host byte order; 0: not told apart */
	enum refusal refusal;
	__u8 pad;
};

struct refused {
	__u64 count;
	__u64 first_ns; /* CLOCK_BOOTTIME */
};

/*
 * One is counted into while user space reads the other, so that no count is added to an
 * entry that was read already: see refusal_round.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct refused_key);
	__type(value, struct refused);
} refused_even SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct refused_key);
	__type(value, struct refused);
} refused_odd SEC(".maps");

/* Which of them: user space counts the rounds. */
volatile __u32 refusal_round;

/* How many entries a peer has in a round (with port 0), or a port (with address 0). */
struct crowd_key {
	__u8 address[16];
	__u32 netns_inode;
	__u32 round;
	__u16 port;
	__u8 pad[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct crowd_key);
	__type(value, __u64);
} crowds SEC(".maps");

/* How many are told apart, or one more for each CPU that counts at the same time. */
#define MAX_PORTS 16 /* of a peer */
#define MAX_PEERS 64 /* of a port */

static __always_inline bool is_crowd(const struct crowd_key *key, __u64 limit)
{
	__u64 *size = bpf_map_lookup_elem(&crowds, key);

	return size && *size >= limit;
}

static __always_inline void join_crowd(const struct crowd_key *key)
{
	const __u64 none = 0;
	__u64 *size = bpf_map_lookup_elem(&crowds, key);

	if (!size) {
		/* Another CPU may add it first, and its count is to stay. */
		bpf_map_update_elem(&crowds, key, &none, BPF_NOEXIST);
		size = bpf_map_lookup_elem(&crowds, key);
	}
	if (size)
		__sync_fetch_and_add(size, 1);
}

/* Counts an attempt if there is an entry for it. */
static __always_inline bool add_refused(void *map, const struct refused_key *key)
{
	struct refused *value = bpf_map_lookup_elem(map, key);

	if (!value)
		return false;
	if (!value->first_ns) /* of two at once either may be called the first */
		value->first_ns = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&value->count, 1);
	return true;
}

/* The same, with a new entry if there is room for one. */
static __always_inline bool enter_refused(void *map, const struct refused_key *key)
{
	const struct refused none = {};

	/* Another CPU may add it first, so the answer that counts is the second look. */
	return add_refused(map, key) || (bpf_map_update_elem(map, key, &none, BPF_NOEXIST), add_refused(map, key));
}

static __always_inline void count_refused(void *map, struct refused_key *key, __u32 round)
{
	struct crowd_key peer = { .netns_inode = key->netns_inode, .round = round };
	struct crowd_key port = { .netns_inode = key->netns_inode, .round = round, .port = key->port };
	struct refused_key rest = { .refusal = key->refusal };

	if (add_refused(map, key))
		return;
	__builtin_memcpy(peer.address, key->peer_address, sizeof(peer.address));
	if (is_crowd(&peer, MAX_PORTS)) {
		__builtin_memset(key->local_address, 0, sizeof(key->local_address));
		key->port = 0;
	} else if (is_crowd(&port, MAX_PEERS)) {
		__builtin_memset(key->local_address, 0, sizeof(key->local_address));
		__builtin_memset(key->peer_address, 0, sizeof(key->peer_address));
	} else {
		join_crowd(&peer);
		join_crowd(&port);
	}
	if (!enter_refused(map, key))
		add_refused(map, &rest); /* which user space has put there */
}

/* Counts an attempt. The key is changed. */
static __always_inline void refuse(struct refused_key *key)
{
	__u32 round = refusal_round;

	if (round & 1)
		count_refused(&refused_odd, key, round);
	else
		count_refused(&refused_even, key, round);
}
