/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "kernel.h"

#define IFF_SLAVE 0x800        /* a part of a bond */
#define IFF_BRIDGE_PORT 0x200  /* priv_flags */
#define IFF_TEAM_PORT 0x2000   /* priv_flags */

#define SKB_GSO_TCP 0x11 /* SKB_GSO_TCPV4 | SKB_GSO_TCPV6 */

#define UDP_HEADER 8

#define PACKET_LOOPBACK 5 /* the sender's own copy of a broadcast: it was on no wire */

/* One skb can be many frames: devices count the one or the other. */
struct count {
	__u64 packets;
	__u64 bytes;
	__u64 frames;
	__u64 frame_bytes;
};

/*
 * Sizes an skb of len bytes whose headers start at from, counted from skb->head.
 * A GSO skb becomes a frame a segment on a real wire, each with its own headers.
 */
static __always_inline void measure(struct count *c, const struct sk_buff *skb, __u32 from, __u32 len)
{
	struct skb_shared_info *shared;
	unsigned char *head = skb->head;
	__u32 transport, headers, segments;
	__u8 tcp_length = 0;
	struct {
		__u16 size, segs;
		__u32 type;
	} gso = {};

	c->packets = c->frames = 1;
	c->bytes = c->frame_bytes = len;
	shared = (struct skb_shared_info *)(head + skb->end);
	bpf_probe_read_kernel(&gso.size, sizeof(gso.size), &shared->gso_size);
	if (!gso.size)
		return;
	gso.segs = BPF_CORE_READ(shared, gso_segs);
	gso.type = BPF_CORE_READ(shared, gso_type);
	transport = skb->transport_header;
	if (BPF_CORE_READ_BITFIELD(skb, encapsulation)) /* what is cut is the packet in it */
		transport = skb->inner_transport_header;
	headers = transport - from;
	if (gso.type & SKB_GSO_TCP) {
		bpf_probe_read_kernel(&tcp_length, 1, head + transport + 12);
		headers += tcp_length >> 4 << 2;
	} else {
		headers += UDP_HEADER;
	}
	segments = gso.segs;
	if (!segments && len > headers)
		segments = (len - headers + gso.size - 1) / gso.size;
	if (segments <= 1)
		return;
	c->frames = segments;
	c->frame_bytes = len + (__u64)(segments - 1) * headers;
}

/* Whether a device has others above it, which send and receive through it. */
static __always_inline bool has_upper(struct net_device *dev)
{
	struct list_head *upper = (void *)dev + bpf_core_field_offset(struct net_device, adj_list.upper);

	return dev->adj_list.upper.next != upper;
}

/* IP protocol of a packet whose network header is at network; 0 where it has none. */
static __always_inline __u8 transport_of(const void *network, __u16 type)
{
	__u8 protocol = 0;

	if (type == ETH_P_IP)
		bpf_probe_read_kernel(&protocol, 1, network + 9);
	else if (type == ETH_P_IPV6)
		bpf_probe_read_kernel(&protocol, 1, network + 6);
	return protocol;
}
