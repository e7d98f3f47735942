/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../packet/headers.h"
#include "../packet/packet.h"

/*
 * WireGuard encrypts and decrypts on other CPUs, so its packet and the one inside are not handled
 * one after the other. A packet that it sends keeps the sender's socket and has another transport
 * header, whose source port is the one on which WireGuard receives.
 */

/* Set if there is such a device, by user space or when one is met. */
bool with_wireguard;

struct wireguard_port {
	__u64 netns;
	__u16 port; /* network byte order */
	__u16 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct wireguard_port);
	__type(value, __u8);
} wireguard_ports SEC(".maps");

/*
 * Whether a socket's packet, as it is passed to dev, is inside a packet of WireGuard. For a raw
 * socket, which may send such packets itself, the answer is no.
 */
static __noinline bool is_in_wireguard(struct sk_buff *skb, struct sock *sk, struct net_device *dev)
{
	struct wireguard_port port = { .netns = dev->nd_net.net->net_cookie };
	const __u8 known = 1;

	port.port = udp_ports_of(skb->head + skb->network_header, skb->protocol).source;
	if (!port.port)
		return false;
	if (sk->__sk_common.skc_state != STATE_NEW_SYN_RECV) {
		if (sk->__sk_common.skc_family == AF_PACKET || sk->sk_type == SOCK_RAW)
			return false;
		if (sk->sk_protocol == IPPROTO_UDP && BPF_CORE_READ((struct inet_sock *)sk, inet_sport) == port.port)
			return false;
	}
	bpf_map_update_elem(&wireguard_ports, &port, &known, BPF_ANY);
	return true;
}

/* Whether a packet that has arrived, with its network header at network, is for WireGuard. */
static __noinline bool is_for_wireguard(const void *network, __be16 protocol, __u64 netns)
{
	struct wireguard_port port = { .netns = netns };

	port.port = udp_ports_of(network, protocol).destination;
	return port.port && bpf_map_lookup_elem(&wireguard_ports, &port);
}
