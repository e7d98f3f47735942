/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "headers.h"
#include "packet.h"

/* Segmentation offload: one skb becomes many frames on a real wire. */

#define SKB_GSO_TCP 0x11 /* SKB_GSO_TCPV4 | SKB_GSO_TCPV6 */

#define UDP_HEADER 8

/* The size of the pieces into which an skb is to be cut; 0 if it is not to be cut. */
static __always_inline __u16 gso_size_of(const struct sk_buff *skb)
{
	const struct skb_shared_info *shared = (struct skb_shared_info *)(skb->head + skb->end), *typed;

	if (!bpf_rdonly_cast)
		return BPF_CORE_READ(shared, gso_size);
	typed = bpf_rdonly_cast(shared, bpf_core_type_id_kernel(struct skb_shared_info));
	return typed->gso_size;
}

/*
 * Counts the frames of an skb of len bytes, which c has as one frame. Its headers begin at from,
 * counted from skb->head. On a real wire it becomes one frame for each piece of a size, each with
 * its own headers.
 */
static __noinline void measure_pieces(struct count *c, const struct sk_buff *skb, __u32 from, __u32 len, __u16 size)
{
	unsigned char *head = skb->head;
	struct skb_shared_info *shared = (struct skb_shared_info *)(head + skb->end);
	__u32 transport = skb->transport_header, headers, segments;

	if (!c || !size)
		return;
	if (BPF_CORE_READ_BITFIELD(skb, encapsulation)) /* the inner packet is cut */
		transport = skb->inner_transport_header;
	headers = transport - from;
	if (BPF_CORE_READ(shared, gso_type) & SKB_GSO_TCP)
		headers += tcp_header_length(head + transport);
	else
		headers += UDP_HEADER;
	segments = BPF_CORE_READ(shared, gso_segs);
	if (!segments && len > headers)
		segments = (len - headers + size - 1) / size;
	if (segments <= 1)
		return;
	c->frames = segments;
	c->frame_bytes = len + (__u64)(segments - 1) * headers;
}
