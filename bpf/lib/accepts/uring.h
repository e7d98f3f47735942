/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/files.h"

/*
 * Accepts through io_uring. No system call returns their fd; a completion has it. A multishot
 * accept completes once for each connection, and all its completions but the last lack the request
 * that they belong to. They have only the ring and the user_data.
 */
#define IORING_OP_ACCEPT 13
#define FILE_INDEX_ALLOC (~0U) /* IORING_FILE_INDEX_ALLOC */
#define FILE_FLAGS 7UL         /* flags in the low bits */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct io_rsrc_node {
	unsigned long file_ptr;
};

struct io_rsrc_data {
	struct io_rsrc_node **nodes;
};

struct io_fixed_file {
	unsigned long file_ptr;
};

struct io_file_table {
	struct io_rsrc_data data;    /* since 6.13 */
	struct io_fixed_file *files; /* before 6.13 */
};

struct io_ring_ctx {
	struct io_file_table file_table;
};

struct io_cqe {
	__u64 user_data;
};

struct io_kiocb {
	struct file *file;
	__u8 opcode;
	struct io_cqe cqe;
	struct io_ring_ctx *ctx;
};

struct io_accept { /* lies over the start of struct io_kiocb */
	__u32 file_slot;
};

struct io_uring_cqe {
	__u64 user_data;
	__s32 res;
};

#pragma clang attribute pop

struct request_key {
	__u64 ring; /* address of its io_ring_ctx */
	__u64 user_data;
};

/*
 * The accept requests that are under way. The map drops the oldest when it is full; such a request
 * is put back when its next connection arrives.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct request_key);
	__type(value, struct io_kiocb *);
} requests SEC(".maps");

static __always_inline bool is_accept_request(struct io_kiocb *request)
{
	return request && BPF_CORE_READ(request, opcode) == IORING_OP_ACCEPT;
}

static __always_inline void remember_request(struct io_kiocb *request)
{
	struct request_key key = {
		.ring = (__u64)BPF_CORE_READ(request, ctx),
		.user_data = BPF_CORE_READ(request, cqe.user_data),
	};

	if (is_accept_request(request))
		bpf_map_update_elem(&requests, &key, &request, BPF_ANY);
}

/* The multishot accept that a completion without a request belongs to, or NULL. */
static __always_inline struct io_kiocb *recall_request(struct request_key *key)
{
	struct io_kiocb **entry = bpf_map_lookup_elem(&requests, key), *request;

	if (!entry)
		return NULL;
	request = *entry;
	/* It may have ended unseen, and its memory may hold another request by now. */
	if (!is_accept_request(request) ||
	    (__u64)BPF_CORE_READ(request, ctx) != key->ring ||
	    BPF_CORE_READ(request, cqe.user_data) != key->user_data)
		return NULL;
	return request;
}

static __always_inline struct file *fixed_file(struct io_ring_ctx *ring, __u32 slot)
{
	unsigned long file = 0;

	if (bpf_core_field_exists(ring->file_table.data)) {
		struct io_rsrc_node **nodes = BPF_CORE_READ(ring, file_table.data.nodes), *node = NULL;

		bpf_probe_read_kernel(&node, sizeof(node), nodes + slot);
		file = BPF_CORE_READ(node, file_ptr);
	} else {
		struct io_fixed_file *files = BPF_CORE_READ(ring, file_table.files);

		bpf_probe_read_kernel(&file, sizeof(file), files + slot);
	}
	return (struct file *)(file & ~FILE_FLAGS);
}

/* The file that an accept request made. result is an fd; for a fixed file it is 0 or the slot. */
static __always_inline struct file *accepted_file(struct io_kiocb *request, int result)
{
	__u32 slot = BPF_CORE_READ((struct io_accept *)request, file_slot);

	if (!slot)
		return file_of_fd(result);
	if (slot != FILE_INDEX_ALLOC)
		result = slot - 1;
	return fixed_file(BPF_CORE_READ(request, ctx), result);
}
