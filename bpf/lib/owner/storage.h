/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "owner.h"

/* A socket's storage in the kernel's own form. Helpers accept only trusted pointers to sockets. */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_local_storage_data {
	void *smap; /* the map; its address is that of the struct bpf_map in it */
	__u8 data[0];
};

struct bpf_local_storage_elem {
	struct hlist_node snode;
	struct bpf_local_storage_data sdata;
};

struct bpf_local_storage {
	struct hlist_head list;
};

struct sock___with_storage {
	struct bpf_local_storage *sk_bpf_storage;
};

#pragma clang attribute pop

#define MAX_STORAGES 16 /* of one socket that are looked at */

/*
 * Copies the owner from the storage of a socket whose pointer the verifier does not
 * accept, because it was remembered, or because it may point to something else. Linux
 * 6.11 and later do not need this, and in older kernels the layout does not change any
 * more.
 */
static __always_inline bool copy_owner(struct owner *owner, struct sock *sk)
{
	struct bpf_local_storage *storage = BPF_CORE_READ((struct sock___with_storage *)sk, sk_bpf_storage);
	struct hlist_node *node = BPF_CORE_READ(storage, list.first);
	__u64 address = (__u64)sk;
	struct owner *found;

	for (int i = 0; node && i < MAX_STORAGES; i++) {
		struct bpf_local_storage_elem *e = (void *)node - bpf_core_field_offset(struct bpf_local_storage_elem, snode);

		if (BPF_CORE_READ(e, sdata.smap) == (void *)&owners)
			return !bpf_probe_read_kernel(owner, sizeof(*owner), &e->sdata.data);
		node = BPF_CORE_READ(node, next);
	}
	found = with_found ? bpf_map_lookup_elem(&found_owners, &address) : NULL;
	if (found)
		*owner = *found;
	return found;
}
