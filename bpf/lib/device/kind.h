/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/* The kind of a device, as in `ip link add type KIND`; empty for lo and for hardware. */
struct kind {
	char name[16];
};

static __always_inline struct kind kind_of(struct net_device *dev)
{
	struct kind kind = {};

	bpf_probe_read_kernel_str(kind.name, sizeof(kind.name), BPF_CORE_READ(dev, rtnl_link_ops, kind));
	return kind;
}

#define IS_KIND(kind, word) (!__builtin_memcmp((kind).name, word, sizeof(word)))
