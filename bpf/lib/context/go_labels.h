/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "otel_thread.h"

/*
 * The pprof labels of the goroutine that the thread runs. Two of them hold the ids of its span. A
 * goroutine that serves many requests, such as the writer of a pooled connection, has the labels of
 * whoever started it, which are not used.
 */
#define MAX_LABELS 8
#define LABEL_NAME 16

struct label_key {
	char name[LABEL_NAME];
	__u64 length;
};

const volatile struct label_key trace_id_label, span_id_label;

struct go_string {
	__u64 data;
	__u64 length;
};

struct go_slice {
	__u64 data;
	__u64 length;
	__u64 capacity;
};

/* Up to Go 1.23: a map of up to eight entries has one bucket, with all keys before the values. */
struct go_map {
	__u64 count;
	__u8 flags;
	__u8 log_buckets;
	__u8 pad[6];
	__u64 buckets;
};

#define BUCKET_TOP_HASHES 8
#define BUCKET_VALUES (BUCKET_TOP_HASHES + MAX_LABELS * sizeof(struct go_string))
#define MIN_TOP_HASH 5 /* a smaller value marks an empty place */

/*
 * Where the labels are: the key of label i is at keys + i * stride, and its value at values + i *
 * stride.
 */
struct labels {
	__u64 keys;
	__u64 values;
	__u64 stride;
	__u64 count;
	__u64 used; /* the top hashes, if it is a map */
};

static __always_inline bool find_labels(struct labels *l, const struct observed *process, __u64 labels)
{
	struct go_slice slice;
	struct go_map map;
	__u64 address;

	if (!(process->flags & OBSERVED_GO_MAP)) {
		if (bpf_probe_read_user(&slice, sizeof(slice), (void *)labels))
			return false;
		*l = (struct labels){slice.data, slice.data + sizeof(struct go_string), 2 * sizeof(struct go_string),
				     slice.length, EACH_BYTE(MIN_TOP_HASH)};
		return true;
	}
	if (bpf_probe_read_user(&address, sizeof(address), (void *)labels) || !address ||
	    bpf_probe_read_user(&map, sizeof(map), (void *)address))
		return false;
	*l = (struct labels){map.buckets + BUCKET_TOP_HASHES, map.buckets + BUCKET_VALUES, sizeof(struct go_string), MAX_LABELS};
	return !map.log_buckets && !bpf_probe_read_user(&l->used, sizeof(l->used), (void *)map.buckets);
}

/* 1 if the string equals the key, otherwise 0. */
static __always_inline __u64 is_label(const struct go_string *string, const volatile struct label_key *key)
{
	__u64 name[2] = {}, length = key->length;

	if (string->length != length || length > LABEL_NAME || bpf_probe_read_user(name, length, (void *)string->data))
		return 0;
	return name[0] == ((const volatile __u64 *)key->name)[0] && name[1] == ((const volatile __u64 *)key->name)[1];
}

#define LABEL_TRACE_ID 1
#define LABEL_SPAN_ID 2

/*
 * Which label has its key at address. This is a global function so that the verifier need not
 * follow each possible result for each label.
 */
__noinline int label_at(__u64 address)
{
	struct go_string string;

	if (bpf_probe_read_user(&string, sizeof(string), (void *)address))
		return 0;
	return is_label(&string, &trace_id_label) * LABEL_TRACE_ID | is_label(&string, &span_id_label) * LABEL_SPAN_ID;
}

/* Reads the digits of a label that has exactly so many bytes. */
static __always_inline bool read_label(__u64 *digits, __u32 bytes, __u64 address)
{
	struct go_string string;

	return !bpf_probe_read_user(&string, sizeof(string), (void *)address) && string.length == bytes &&
	       !bpf_probe_read_user(digits, bytes, (void *)string.data);
}

/* The address of a goroutine's labels, or 0. A goroutine of the runtime itself has none. */
static __always_inline __u64 labels_of(const struct observed *process, __u64 *g)
{
	__u64 labels = 0, m = 0, current = 0;

	if (!read_user_word(&labels, *g + process->g_labels))
		return 0;
	if (labels || !(process->flags & OBSERVED_GO_CGO))
		return labels;
	/* In a call of C code the thread runs on g0, and the goroutine is m.curg. */
	if (!read_user_word(&m, *g + process->g_m) || !m || !read_user_word(&current, m + process->m_curg) || !current ||
	    current == *g)
		return 0;
	*g = current;
	return read_user_word(&labels, *g + process->g_labels) ? labels : 0;
}

static __always_inline bool is_pooled(const struct observed *process, __u64 g)
{
	__u64 start = 0, is = 0;

	if (!process->pooled_count)
		return false;
	if (!read_user_word(&start, g + process->g_startpc))
		return true;
	for (int i = 0; i < MAX_POOLED; i++) { /* without branches, each of which the verifier would follow */
		__u64 differs = process->pooled[i] ^ start;

		is |= ~(differs | -differs) >> 63;
	}
	return start && is; /* the rest of the table is 0 */
}

/* g is the goroutine that the thread runs. */
static __always_inline bool go_labels_context(struct context *c, const struct observed *process, __u64 g)
{
	__u64 labels, trace_id = 0, span_id = 0, trace[4], span[2];
	struct labels l;

	labels = g ? labels_of(process, &g) : 0;
	if (!labels)
		return false;
	if (!find_labels(&l, process, labels)) {
		count_context(REFUSED_UNREADABLE);
		return false;
	}
	for (__u32 i = 0; i < MAX_LABELS; i++) {
		__u64 label;

		if (i >= l.count)
			break;
		if ((l.used >> 8 * i & 0xff) < MIN_TOP_HASH)
			continue;
		label = label_at(l.keys + i * l.stride);
		trace_id |= -(label & LABEL_TRACE_ID) & (l.values + i * l.stride);
		span_id |= -(label / LABEL_SPAN_ID) & (l.values + i * l.stride);
	}
	if (!trace_id || !span_id || !read_label(trace, sizeof(trace), trace_id) || !read_label(span, sizeof(span), span_id))
		return false;
	if (!parse_ids(c, trace, span)) {
		count_context(REFUSED_INVALID);
		return false;
	}
	if (is_pooled(process, g)) {
		count_context(REFUSED_POOLED);
		return false;
	}
	c->source = CONTEXT_GO_LABELS;
	c->sampled = 1; /* applications set labels for spans that are recorded */
	return true;
}
