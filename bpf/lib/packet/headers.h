/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

#define ETH_P_ARP 0x0806

/* IPv6 extension headers, which stand before the transport's */
#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_DEST 60
#define MAX_EXTENSIONS 6

struct ip_header {
	__u8 version_length;
	__u8 skipped[8];
	__u8 protocol;
	__u8 rest[10];
};

struct ipv6_header {
	__u8 version_class;
	__u8 skipped[5];
	__u8 next;
	__u8 rest[33];
};

/* Copies size bytes of an skb's linear part, from an offset that counts from head. */
static __always_inline bool read_header(void *to, __u32 size, struct sk_buff *skb, __u32 offset)
{
	return offset + size <= skb->tail && !bpf_probe_read_kernel(to, size, skb->head + offset);
}

static __always_inline __u8 skip_extensions(struct sk_buff *skb, __u32 offset, __u8 next)
{
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		struct {
			__u8 next, length;
		} extension;

		if (next != NEXTHDR_HOP && next != NEXTHDR_ROUTING && next != NEXTHDR_FRAGMENT && next != NEXTHDR_DEST)
			return next;
		if (!read_header(&extension, sizeof(extension), skb, offset))
			return 0;
		offset += next == NEXTHDR_FRAGMENT ? 8 : (extension.length + 1) * 8;
		next = extension.next;
	}
	return 0;
}

/* IP protocol of an skb, behind the extension headers of IPv6; 0 where none can be read. */
static __always_inline __u8 read_transport(struct sk_buff *skb, __u16 type)
{
	__u32 offset = skb->network_header;

	if (type == ETH_P_IP) {
		struct ip_header ip;

		if (read_header(&ip, sizeof(ip), skb, offset) && ip.version_length >> 4 == 4)
			return ip.protocol;
	} else if (type == ETH_P_IPV6) {
		struct ipv6_header ip;

		if (read_header(&ip, sizeof(ip), skb, offset) && ip.version_class >> 4 == 6)
			return skip_extensions(skb, offset + sizeof(ip), ip.next);
	}
	return 0;
}
