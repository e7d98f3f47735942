/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "count.h"

/*
 * What a tun or tap device receives was written by the process that has its file open, for a
 * virtual machine or a VPN. What is forwarded from and to the device is counted for that process on
 * the device.
 */

bool with_tun; /* set if there is such a device */

/* Set if there are devices for which each packet that arrives needs a closer look. */
bool with_special;

struct tun_key {
	__u64 netns;
	__u32 ifindex;
	__u32 pad;
};

/* The number of the process that last wrote to a device. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct tun_key);
	__type(value, __u64);
} tun_writers SEC(".maps");

/* The number of that process; NOBODY if it is no such device, or has not been written to. */
static __always_inline __u64 tun_writer(__u64 netns, __u32 ifindex)
{
	struct tun_key key = { .netns = netns, .ifindex = ifindex };
	__u64 *number;

	if (!with_tun)
		return NOBODY;
	number = bpf_map_lookup_elem(&tun_writers, &key);
	return number ? *number : NOBODY;
}
