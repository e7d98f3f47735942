/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../process/process.h"

/*
 * Trace contexts: the span of an application that something in the kernel belongs to. Each source
 * of contexts has a file in context/. The sources keep nothing but ids of what they read in a
 * process's memory, and never write there. Go: internal/tracecontext.
 */
enum __attribute__((packed)) context_source {
	CONTEXT_NONE,
	CONTEXT_HTTP,        /* the traceparent in the head of this very message */
	CONTEXT_OTEL_THREAD, /* what the thread publishes by OTEP 4947 */
	CONTEXT_GO_LABELS,   /* the pprof labels of the goroutine */
	CONTEXT_OBI,         /* what OBI knows of the thread */
	CONTEXT_SOCKET,      /* the last one of the same exchange on the socket */
	CONTEXT_SOURCES,
};

struct context {
	__u8 trace_id[16];
	__u8 span_id[8];
	enum context_source source;
	__u8 link;    /* the span is related, but not known to be the cause */
	__u8 sampled; /* 0: its spans are not recorded */
	__u8 pad[5];
};

/* Counts: what was found, by enum context_source, and then why something was not used. */
enum context_count {
	REFUSED_UNREADABLE = CONTEXT_SOURCES, /* user memory that is not resident */
	REFUSED_INVALID,    /* ids that are zero, not hexadecimal, or malformed */
	REFUSED_POOLED,     /* the labels of a goroutine that serves many requests */
	REFUSED_FOREIGN,    /* the socket's context belongs to another process */
	REFUSED_EXPIRED,    /* the socket's context is old */
	REFUSED_LEFTOVER,   /* what OBI has for a thread belongs to an earlier one with the same id */
	REFUSED_TABLE_FULL, /* no room for one more process */
	CONTEXT_COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CONTEXT_COUNTS);
	__type(key, enum context_count);
	__type(value, __u64);
} context_counts SEC(".maps");

static __always_inline void count_context(enum context_count kind)
{
	__u64 *count = bpf_map_lookup_elem(&context_counts, &kind);

	if (count)
		__sync_fetch_and_add(count, 1);
}

/* Sources that are wanted. */
const volatile bool with_http, with_otel_thread, with_go_labels, with_obi, with_socket;

enum observed_flag {
	OBSERVED_WANTED = 1,        /* the configuration lets its memory be read */
	OBSERVED_THREAD_SLOT = 2,   /* its threads publish their contexts as OTEP 4947 says */
	/* the slot is in the block of a module, which the dynamic thread vector leads to */
	OBSERVED_THREAD_MODULE = 4,
	OBSERVED_MUSL = 8,          /* the entries of that vector have 8 bytes, not 16 */
	OBSERVED_GO = 16,
	OBSERVED_GO_MAP = 32, /* the labels are a map: up to Go 1.23 */
	OBSERVED_GO_CGO = 64, /* it can call C code, on another goroutine's stack */
};

#define MAX_POOLED 16

/* Where a process keeps what leads to its contexts. User space finds this out. */
struct observed {
	__u64 start_ns; /* when the process started, since pids are used again */
	__u64 slot_module;
	__s64 slot_offset;       /* from the thread pointer, or in the module's block */
	__u64 pooled[MAX_POOLED]; /* entry points of goroutines that serve many requests */
	__u32 exec_id;
	enum observed_flag flags;
	__s32 g_tls; /* from the thread pointer; arm64 has g in a register */
	__u16 g_m, m_curg, g_labels, g_startpc; /* offsets in the runtime's structs */
	__u32 pooled_count;
	__u16 ask;       /* user space is to examine the process again when it is next met */
	__u16 publishes; /* it has published a context */
	__u32 silences;  /* how often it had none to read, while it never published one */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32); /* pid */
	__type(value, struct observed);
} observed SEC(".maps");

/*
 * The context of the last message that a thread sent or received, if the message or its socket had
 * one.
 */
struct message_context {
	struct context context;
	__u64 time_ns; /* CLOCK_BOOTTIME */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct message_context);
} messages SEC(".maps");
