/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * How many entries of a map each holder has: a network namespace, or a user. Anyone may create a
 * namespace with any number of devices, and run any number of processes, so each holder may have
 * only a part of a map. All of them but the host, which is its own namespace or root, together may
 * have a larger part, so there is always room for the host. The shares are looked up only when an
 * entry would be new. At each collection user space writes what it found in a map, so a count that
 * changed between its reading and its writing is corrected by the next collection. Go: kernel.Quota.
 */
enum share_of {
	SHARE_OF_INTERFACES,
	SHARE_OF_TRAFFIC,
	SHARE_OF_ACCOUNTS,
	SHARE_OF_DROPS,
	SHARE_OF_WAITS,
};

struct share_key {
	__u64 holder; /* 0: all but the host */
	enum share_of of;
	__u32 refused; /* 1: the entry counts how often there was no room; holder is 0 then */
};

struct share {
	__u64 entries;
	__u32 limit; /* for all together; UNLIMITED: for the host's */
	__u32 each;  /* in the entry for all: the limit for one */
};

#define UNLIMITED 0xffffffff

struct share_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct share_key);
	__type(value, struct share);
};

const struct share no_share = {};

/* Whether a holder may have one more entry. One that is not known (0) may. */
static __always_inline bool has_place(void *shares, __u64 holder, enum share_of of)
{
	struct share_key key = { .holder = holder, .of = of };
	struct share *own, *all, *refused;

	if (!holder)
		return true;
	own = bpf_map_lookup_elem(shares, &key);
	if (own && own->limit == UNLIMITED)
		return true;
	key.holder = 0;
	all = bpf_map_lookup_elem(shares, &key);
	if (!all) /* it is not known yet which holder is the host */
		return true;
	if (all->entries < all->limit && (!own || own->entries < all->each))
		return true;
	key.refused = 1;
	refused = bpf_map_lookup_elem(shares, &key);
	if (refused)
		__sync_fetch_and_add(&refused->entries, 1);
	return false;
}

/* Counts that a holder has one more entry. */
static __always_inline void take_place(void *shares, __u64 holder, enum share_of of)
{
	struct share_key key = { .of = of };
	struct share *all = bpf_map_lookup_elem(shares, &key), *own;

	if (!holder || !all)
		return;
	key.holder = holder;
	own = bpf_map_lookup_elem(shares, &key);
	if (!own) {
		/* Another CPU may add it first, so the answer that counts is the second look. */
		bpf_map_update_elem(shares, &key, &no_share, BPF_NOEXIST);
		own = bpf_map_lookup_elem(shares, &key);
	}
	if (own && own->limit == UNLIMITED)
		return;
	__sync_fetch_and_add(&all->entries, 1);
	if (own)
		__sync_fetch_and_add(&own->entries, 1);
}
