/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * What became of the events that an instrument saw. Go: kernel.ReadCounts. Seen = what was reported
 * or aggregated + STAT_SAMPLED_OUT + all STAT_LOST_*.
 */
enum stat {
	STAT_SEEN,
	STAT_SAMPLED_OUT,
	STAT_LOST_MAP_FULL,
	STAT_LOST_NAMESPACE_FULL, /* its network namespace has used up its share of a map: quota.h */
	STAT_LOST_RING_FULL,
	STAT_LOST_UNREADABLE,
	STAT_LOST_UNFINISHED, /* calls: the end of one was not seen */
	STAT_COPY, /* traffic: deliveries of a packet after its first, which are not counted as seen */
	STAT_KINDS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STAT_KINDS);
	__type(key, enum stat);
	__type(value, __u64);
} stats SEC(".maps");

static __always_inline void count_stats(enum stat kind, __u64 n)
{
	__u64 *count = bpf_map_lookup_elem(&stats, &kind);

	if (count)
		__sync_fetch_and_add(count, n); /* atomic because a softirq may interrupt */
}

static __always_inline void count_stat(enum stat kind)
{
	count_stats(kind, 1);
}
