/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

/*
 * Reading the headers of a packet, for all instruments.
 *
 * There are two ways to find the transport protocol. read_transport checks that what it reads is
 * inside the packet, and skips the extension headers of IPv6. It is for dropped packets, which are
 * few and may contain anything. transport_of reads a single byte and is for every packet of a
 * device, where those checks would cost too much. For a packet with extension headers it returns
 * the number of the first of these.
 */

#define ETH_P_ARP 0x0806

/* IPv6 extension headers, which come before the transport header. */
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

/* The transport protocol of an skb, after any IPv6 extension headers; 0 if it cannot be read. */
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

/* The IP protocol of a packet whose network header is at network; 0 if it is not IP. */
static __always_inline __u8 transport_of(const void *network, __u16 type)
{
	__u8 protocol = 0;

	if (type == ETH_P_IP)
		bpf_probe_read_kernel(&protocol, 1, network + 9);
	else if (type == ETH_P_IPV6)
		bpf_probe_read_kernel(&protocol, 1, network + 6);
	return protocol;
}

struct udp_ports {
	__be16 source, destination;
};

/* The ports of a UDP packet whose network header is at network; zeros for any other packet. */
static __always_inline struct udp_ports udp_ports_of(const void *network, __be16 protocol)
{
	struct udp_ports ports = {};
	__u8 first = 0;
	__u32 length = 40;

	if (transport_of(network, bpf_ntohs(protocol)) != IPPROTO_UDP)
		return ports;
	if (protocol == bpf_htons(ETH_P_IP)) {
		bpf_probe_read_kernel(&first, sizeof(first), network);
		length = (first & 15) * 4;
	}
	bpf_probe_read_kernel(&ports, sizeof(ports), network + length);
	return ports;
}

/* Reads the destination port of TCP or UDP, which have it in the same place. */
static __always_inline bool read_destination_port(__be16 *port, struct sk_buff *skb)
{
	return read_header(port, sizeof(*port), skb, skb->transport_header + sizeof(*port));
}

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct tcp_header {
	__be16 source, dest;
	__u8 skipped[8];
	__u8 length; /* upper half: words of header */
	__u8 flags;
	__u8 rest[6];
};

static __always_inline bool read_tcp_header(struct tcp_header *tcp, struct sk_buff *skb)
{
	return read_header(tcp, sizeof(*tcp), skb, skb->transport_header);
}

/* The same if the verifier does not know the type of skb, as in a kprobe. */
static __always_inline bool probe_tcp_header(struct tcp_header *tcp, struct sk_buff *skb)
{
	return !bpf_probe_read_kernel(tcp, sizeof(*tcp), BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, transport_header));
}

/* The same for a cgroup program, whose context has data from the network header on. */
static __always_inline bool load_tcp_header(struct tcp_header *tcp, struct __sk_buff *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	__u32 offset = BPF_CORE_READ(skb, transport_header) - BPF_CORE_READ(skb, network_header);

	return !bpf_skb_load_bytes(ctx, offset, tcp, sizeof(*tcp));
}

/* Fills in the addresses and ports of both ends, as the sender sees them. */
static __always_inline void load_tuple(struct bpf_sock_tuple *tuple, struct __sk_buff *ctx, const struct tcp_header *tcp)
{
	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		bpf_skb_load_bytes(ctx, 12, &tuple->ipv4, 8);
		tuple->ipv4.sport = tcp->source;
		tuple->ipv4.dport = tcp->dest;
	} else {
		bpf_skb_load_bytes(ctx, 8, &tuple->ipv6, 32);
		tuple->ipv6.sport = tcp->source;
		tuple->ipv6.dport = tcp->dest;
	}
}

/* The length of the TCP header that begins at transport. */
static __always_inline __u32 tcp_header_length(const void *transport)
{
	__u8 words = 0;

	bpf_probe_read_kernel(&words, 1, transport + 12);
	return words >> 4 << 2;
}

static __always_inline bool is_syn(const struct tcp_header *tcp)
{
	return (tcp->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* Whether a segment neither opens a connection nor carries data, such as a reset. */
static __always_inline bool is_empty(const struct tcp_header *tcp, __u32 length)
{
	return !(tcp->flags & TCP_SYN) && (tcp->flags & TCP_RST || length <= (tcp->length >> 4) * 4);
}

static __always_inline bool is_ack(const struct tcp_header *tcp)
{
	return (tcp->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_ACK;
}

/* Both addresses of an IP packet, IPv4 as ::ffff:a.b.c.d; false if they cannot be read. */
static __always_inline bool read_addresses(__u8 source[16], __u8 destination[16], struct sk_buff *skb)
{
	__u16 type = bpf_ntohs(BPF_CORE_READ(skb, protocol));
	__u32 network = BPF_CORE_READ(skb, network_header);
	unsigned char *head = BPF_CORE_READ(skb, head);
	__be32 ipv4[2]; /* source, destination */

	if (type == ETH_P_IPV6)
		return !bpf_probe_read_kernel(source, 16, head + network + 8) && !bpf_probe_read_kernel(destination, 16, head + network + 24);
	if (type != ETH_P_IP || bpf_probe_read_kernel(ipv4, sizeof(ipv4), head + network + 12))
		return false;
	source[10] = source[11] = destination[10] = destination[11] = 0xff;
	*(__be32 *)&source[12] = ipv4[0];
	*(__be32 *)&destination[12] = ipv4[1];
	return true;
}
