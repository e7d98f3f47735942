/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/verifier.h"
#include "ids.h"

/*
 * The traceparent header in the head of an HTTP/1 message. It is found if the message is not
 * encrypted and its head is in one buffer.
 */
#define MAX_HEAD 4096
#define HEAD_SLACK 64 /* what may be read beyond a bound that was checked */

const volatile __u32 head_bytes = 2048; /* how many bytes are searched, at most MAX_HEAD */

/*
 * The head that is searched on this CPU. Each reader has its own, since one program may interrupt
 * another.
 */
struct head {
	__u8 text[MAX_HEAD + HEAD_SLACK];
};

enum head_reader { READER_SEND, READER_RECEIVE, READERS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, READERS);
	__type(key, enum head_reader);
	__type(value, struct head);
} heads SEC(".maps");

/* What a message begins with. */
enum beginning {
	BEGINNING_OTHER,
	BEGINNING_REQUEST,
	BEGINNING_RESPONSE,
	BEGINNING_MULTIPLEXED, /* HTTP/2: what follows belongs to many requests */
};

#define WORD(a, b, c, d) ((__u32)(a) | (__u32)(b) << 8 | (__u32)(c) << 16 | (__u32)(d) << 24)

static __always_inline enum beginning beginning_of(__u64 first)
{
	switch ((__u32)first) {
	case WORD('G', 'E', 'T', ' '):
	case WORD('P', 'O', 'S', 'T'):
	case WORD('P', 'U', 'T', ' '):
	case WORD('H', 'E', 'A', 'D'):
	case WORD('D', 'E', 'L', 'E'):
	case WORD('P', 'A', 'T', 'C'):
	case WORD('O', 'P', 'T', 'I'):
	case WORD('C', 'O', 'N', 'N'):
	case WORD('T', 'R', 'A', 'C'):
		return BEGINNING_REQUEST;
	case WORD('H', 'T', 'T', 'P'):
		return BEGINNING_RESPONSE;
	case WORD('P', 'R', 'I', ' '):
		return BEGINNING_MULTIPLEXED;
	}
	return BEGINNING_OTHER;
}

struct search {
	struct head *head;
	__u32 bytes;
	__u32 value; /* where the header's value begins; 0: not found */
};

#define TRACEPAR 0x7261706563617274ULL /* "tracepar" */
#define ENT WORD('e', 'n', 't', ':')
#define LOWER_CASE 0x20

/*
 * Looks at the lines that begin after a newline among the eight bytes at index. The result 1 ends
 * the search.
 */
static long search_word(__u32 index, struct search *s)
{
	__u32 at = index * 8, line;
	__u64 word, difference, start;

	if (at + 16 > s->bytes || at > MAX_HEAD - 16)
		return 1;
	word = *(__u64 *)&s->head->text[at];
	difference = word ^ EACH_BYTE('\n');
	if (!((difference - EACH_BYTE(1)) & ~difference & EACH_BYTE(0x80)))
		return 0;
	for (int i = 0; i < 8; i++) {
		if ((word >> 8 * i & 0xff) != '\n')
			continue;
		line = at + i + 1;
		start = *(__u64 *)&s->head->text[line];
		if ((start & 0xff) == '\n' || (start & 0xffff) == ('\r' | '\n' << 8))
			return 1; /* an empty line: the head ends */
		if ((start | EACH_BYTE(LOWER_CASE)) != TRACEPAR)
			continue;
		if ((*(__u32 *)&s->head->text[line + 8] | WORD(LOWER_CASE, LOWER_CASE, LOWER_CASE, 0)) != ENT)
			continue;
		s->value = line + 12;
		return 1;
	}
	return 0;
}

#define TRACEPARENT_BYTES 55

static __always_inline __u8 digit(__u8 character)
{
	return (character & 0xf) + (character >> 6 & 1) * 9;
}

/* Parses version-trace-parent-flags, the form of W3C Trace Context. */
static __always_inline bool parse_traceparent(struct context *c, const __u8 *text)
{
	__u64 trace[4], span[2], rest;

	if (text[2] != '-' || text[35] != '-' || text[52] != '-' || (text[0] == 'f' && text[1] == 'f'))
		return false;
	__builtin_memcpy(&rest, text, sizeof(rest));
	__builtin_memcpy(trace, text + 3, sizeof(trace));
	__builtin_memcpy(span, text + 36, sizeof(span));
	/* The digits of the version and the flags, filled up with others to a whole word. */
	rest = (rest & 0xffff) | (__u64)text[53] << 16 | (__u64)text[54] << 24 | (__u64)0x30303030 << 32;
	if (!is_hex(rest) || !parse_ids(c, trace, span))
		return false;
	c->sampled = digit(text[54]) & 1;
	return true;
}

/*
 * Searches for the header in a message in user memory, which begins as a request or a response
 * does.
 */
static __always_inline bool http_context(struct context *c, enum head_reader reader, __u64 address, __u32 bytes)
{
	__u64 n = bytes < head_bytes ? bytes : head_bytes;
	struct search s = {};
	const __u8 *text;
	__u32 value;

	s.head = bpf_map_lookup_elem(&heads, &reader);
	if (!s.head)
		return false;
	CHECKED(n);
	if (!n || n > MAX_HEAD)
		return false;
	if (bpf_probe_read_user(s.head->text, n, (void *)address)) {
		count_context(REFUSED_UNREADABLE);
		return false;
	}
	s.bytes = n;
	bpf_loop(MAX_HEAD / 8, search_word, &s, 0);
	value = s.value;
	if (!value || value > MAX_HEAD - 2)
		return false;
	for (int i = 0; i < 2; i++) { /* skip white space, of which there usually is one */
		if (s.head->text[value] == ' ' || s.head->text[value] == '\t')
			value++;
	}
	if (value > MAX_HEAD || value + TRACEPARENT_BYTES > s.bytes)
		return false;
	text = &s.head->text[value];
	if (!parse_traceparent(c, text)) {
		count_context(REFUSED_INVALID);
		return false;
	}
	c->source = CONTEXT_HTTP;
	return true;
}
