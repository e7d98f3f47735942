/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "ids.h"

/*
 * The thread context record of OTEP 4947, to which a thread-local pointer named otel_thread_ctx_v1
 * leads. The thread that writes the record is in the kernel now, so the record is complete.
 */
struct thread_record {
	__u8 trace_id[16];
	__u8 span_id[8];
	__u8 valid;
	__u8 flags; /* of W3C trace context */
};

#define THREAD_RECORD_BYTES 26

static __always_inline bool read_user_word(__u64 *word, __u64 address)
{
	if (!bpf_probe_read_user(word, sizeof(*word), (void *)address))
		return true;
	count_context(REFUSED_UNREADABLE);
	return false;
}

/*
 * The address of the thread's pointer; 0 if it has none yet. The variables of a library are in
 * blocks that a thread gets when it first uses them. The entry of a module in the thread's vector
 * leads to its block. The length of the vector is in the entry before the first one in glibc, and
 * in the first one in musl.
 */
static __always_inline __u64 slot_of(const struct observed *process, __u64 thread_pointer)
{
	bool musl = process->flags & OBSERVED_MUSL;
	__u64 vector, block, length, module = process->slot_module;
#if defined(__TARGET_ARCH_x86)
	__u64 vector_at = thread_pointer + 8;
#else
	__u64 vector_at = musl ? thread_pointer - 8 : thread_pointer;
#endif

	if (!(process->flags & OBSERVED_THREAD_MODULE))
		return thread_pointer + process->slot_offset;
	if (!read_user_word(&vector, vector_at) || !read_user_word(&length, musl ? vector : vector - 16) || module > length)
		return 0;
	if (!read_user_word(&block, vector + module * (musl ? 8 : 16)))
		return 0;
	if (!block || block == ~0ULL)
		return 0;
	return block + process->slot_offset;
}

static __always_inline bool otel_thread_context(struct context *c, const struct observed *process, __u64 thread_pointer)
{
	__u64 slot = slot_of(process, thread_pointer), address = 0;
	struct thread_record record = {};

	if (!slot || !read_user_word(&address, slot) || !address)
		return false;
	if (bpf_probe_read_user(&record, THREAD_RECORD_BYTES, (void *)address)) {
		count_context(REFUSED_UNREADABLE);
		return false;
	}
	if (record.valid != 1)
		return false;
	__builtin_memcpy(c->trace_id, record.trace_id, sizeof(c->trace_id));
	__builtin_memcpy(c->span_id, record.span_id, sizeof(c->span_id));
	if (!is_valid_context(c)) {
		count_context(REFUSED_INVALID);
		return false;
	}
	c->source = CONTEXT_OTEL_THREAD;
	c->sampled = record.flags & 1;
	return true;
}
