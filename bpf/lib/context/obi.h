/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "ids.h"

/* The context that OBI (OpenTelemetry eBPF Instrumentation) has for a thread. */
struct obi_context {
	__u8 trace_id[16];
	__u8 span_id[8];
};

/* A map of maps with room for OBI's map. */
struct obi_place {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_LRU_HASH);
		__uint(max_entries, 1);
		__type(key, __u64); /* pid and thread id */
		__type(value, struct obi_context);
	});
};

/* User space puts OBI's map here while there is one. */
struct obi_place obi_map SEC(".maps");

/* What OBI's map had for a thread id before the thread began: it belongs to an earlier thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct obi_context);
} obi_leftovers SEC(".maps");

static __always_inline struct obi_context *known_to_obi(__u64 thread)
{
	__u32 zero = 0;
	void *map = bpf_map_lookup_elem(&obi_map, &zero);

	return map ? bpf_map_lookup_elem(map, &thread) : NULL;
}

/* Records what the map has for a thread that begins. */
static __always_inline void note_leftover(__u64 thread)
{
	struct obi_context *known = known_to_obi(thread);

	if (known)
		bpf_map_update_elem(&obi_leftovers, &thread, known, BPF_ANY);
}

static __always_inline bool is_leftover(__u64 thread, const struct obi_context *known)
{
	const __u64 *left = bpf_map_lookup_elem(&obi_leftovers, &thread), *now = (const __u64 *)known;

	return left && left[0] == now[0] && left[1] == now[1] && left[2] == now[2];
}

static __always_inline bool obi_context(struct context *c, const struct observed *process)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct obi_context *known = known_to_obi(thread);

	if (!known)
		return false;
	if (is_leftover(thread, known)) {
		count_context(REFUSED_LEFTOVER);
		return false;
	}
	__builtin_memcpy(c->trace_id, known->trace_id, sizeof(c->trace_id));
	__builtin_memcpy(c->span_id, known->span_id, sizeof(c->span_id));
	if (!is_valid_context(c)) {
		count_context(REFUSED_INVALID);
		return false;
	}
	c->source = CONTEXT_OBI;
	c->sampled = 1;
	/* A process that publishes its own spans is not inside OBI's span, but beside it. */
	c->link = process && process->publishes;
	return true;
}
