/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "context.h"

/* Ids in lower-case hexadecimal, eight digits in a word. */
#define EACH_BYTE(value) (0x0101010101010101ULL * (value))

/* Whether each byte is one of 0-9 and a-f. */
static __always_inline bool is_hex(__u64 digits)
{
	__u64 high = EACH_BYTE(0x80), word = digits | high;
	__u64 decimal = (word - EACH_BYTE('0')) & ~(word - EACH_BYTE('9' + 1));
	__u64 letter = (word - EACH_BYTE('a')) & ~(word - EACH_BYTE('f' + 1));

	return !(digits & high) && ((decimal | letter) & high) == high;
}

/* The four bytes that eight digits stand for, in memory order. */
static __always_inline __u32 bytes_of(__u64 digits)
{
	__u64 values = (digits & EACH_BYTE(0x0f)) + (digits >> 6 & EACH_BYTE(1)) * 9;

	values = (values << 4 | values >> 8) & 0x00ff00ff00ff00ffULL;
	values = (values | values >> 8) & 0x0000ffff0000ffffULL;
	return values | values >> 16;
}

static __always_inline bool is_valid_context(const struct context *c)
{
	const __u64 *trace = (const __u64 *)c->trace_id, *span = (const __u64 *)c->span_id;

	return (trace[0] | trace[1]) && span[0];
}

/* Sets the ids of c from 32 and 16 digits; false if they are not valid. */
static __always_inline bool parse_ids(struct context *c, const __u64 trace[4], const __u64 span[2])
{
	__u32 *trace_bytes = (__u32 *)c->trace_id, *span_bytes = (__u32 *)c->span_id;

	if (!is_hex(trace[0]) || !is_hex(trace[1]) || !is_hex(trace[2]) || !is_hex(trace[3]) ||
	    !is_hex(span[0]) || !is_hex(span[1]))
		return false;
	for (int i = 0; i < 4; i++)
		trace_bytes[i] = bytes_of(trace[i]);
	for (int i = 0; i < 2; i++)
		span_bytes[i] = bytes_of(span[i]);
	return is_valid_context(c);
}
