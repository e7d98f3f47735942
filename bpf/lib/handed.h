/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "count.h"

/* The packet each device was last given on this CPU, for the device may refuse it. */
struct handed {
	__u64 skb;
	struct traffic_key key;
	struct count count;
	enum account account; /* where it was counted */
	__u32 pad;
};

#define HANDED_SLOTS 8

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HANDED_SLOTS);
	__type(key, __u32);
	__type(value, struct handed);
} handed SEC(".maps");

static __always_inline struct handed *handed_to(struct net_device *dev)
{
	__u32 slot = dev->ifindex & (HANDED_SLOTS - 1);

	return bpf_map_lookup_elem(&handed, &slot);
}
