/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * What became of the events an instrument saw. Go: kernel.Books.
 * Seen = what was reported or aggregated + BOOK_SAMPLED_OUT + all BOOK_LOST_*.
 */
enum book {
	BOOK_SEEN,
	BOOK_SAMPLED_OUT,
	BOOK_LOST_MAP_FULL,
	BOOK_LOST_RING_FULL,
	BOOK_LOST_UNREADABLE,
	BOOK_LOST_UNFINISHED, /* calls: the end of one was not seen */
	BOOK_COPY, /* traffic: deliveries of a packet beyond its first, not seen as events */
	BOOK_KINDS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BOOK_KINDS);
	__type(key, enum book);
	__type(value, __u64);
} books SEC(".maps");

static __always_inline void book_n(enum book kind, __u64 n)
{
	__u64 *count = bpf_map_lookup_elem(&books, &kind);

	if (count)
		__sync_fetch_and_add(count, n); /* a softirq may come in between */
}

static __always_inline void book(enum book kind)
{
	book_n(kind, 1);
}
