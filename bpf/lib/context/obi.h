/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "ids.h"

/* What OBI (OpenTelemetry eBPF Instrumentation) says each thread works at. */
struct obi_context {
	__u8 trace_id[16];
	__u8 span_id[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* user space puts OBI's own map in its place */
	__type(key, __u64);     /* pid and thread id */
	__type(value, struct obi_context);
} traces_ctx_v1 SEC(".maps");

static __always_inline bool obi_context(struct context *c, const struct observed *process)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct obi_context *known = bpf_map_lookup_elem(&traces_ctx_v1, &thread);

	if (!known)
		return false;
	__builtin_memcpy(c->trace_id, known->trace_id, sizeof(c->trace_id));
	__builtin_memcpy(c->span_id, known->span_id, sizeof(c->span_id));
	if (!is_valid_context(c)) {
		count_context(REFUSED_INVALID);
		return false;
	}
	c->source = CONTEXT_OBI;
	c->sampled = 1;
	/* A process that has spans of its own is not in OBI's, but beside them. */
	c->link = process && process->publishes;
	return true;
}
