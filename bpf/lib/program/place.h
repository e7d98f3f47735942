/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * A tracepoint where programs of two objects run. The kernel takes about 80 instructions to reach each program that is
 * attached there, so only one is. The first one jumps to the second when it is done, and is attached itself if it comes
 * first. Otherwise that of bpf/places.bpf.c is attached, which jumps to the first one. Either is put there and taken away at
 * any time, as one word, so that the other one sees each event once meanwhile. Go: internal/places.
 */
enum rank {
	FIRST,
	SECOND,
	RANKS,
};

struct place {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, RANKS);
	__type(key, enum rank);
	__type(value, __u32);
};

/*
 * Ends a program that is the first one of a place. Its name ends in _first, and another program does the same where there
 * is no such place: a program that jumps takes a few instructions more.
 */
#define LEAVE_TO_SECOND(ctx, place)                 \
	do {                                        \
		bpf_tail_call(ctx, &place, SECOND); \
		return 0;                           \
	} while (0)
