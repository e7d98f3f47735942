/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

#define IFF_SLAVE 0x800        /* a part of a bond */
#define IFF_BRIDGE_PORT 0x200  /* priv_flags */
#define IFF_TEAM_PORT 0x2000   /* priv_flags */

#define PACKET_LOOPBACK 5 /* the sender's own copy of a broadcast, which was never on a wire */

enum direction {
	TRANSMIT,
	RECEIVE,
};

/* One skb can become many frames; some devices count skbs and others frames. */
struct count {
	__u64 packets;
	__u64 bytes;
	__u64 frames;
	__u64 frame_bytes;
};

/* Casts to kernel types whose fields can be read without a helper call, since Linux 6.2. */
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;
extern void *bpf_cast_to_kern_ctx(void *context) __ksym __weak;

static __always_inline struct count count_of_frame(__u32 bytes)
{
	return (struct count){ .packets = 1, .bytes = bytes, .frames = 1, .frame_bytes = bytes };
}

static __always_inline bool is_loopback(int ifindex)
{
	return ifindex == 1; /* LOOPBACK_IFINDEX, in each namespace */
}

/* Whether other devices send and receive through this one. */
static __always_inline bool has_upper(struct net_device *dev)
{
	struct list_head *upper = (void *)dev + bpf_core_field_offset(struct net_device, adj_list.upper);

	return dev->adj_list.upper.next != upper;
}
