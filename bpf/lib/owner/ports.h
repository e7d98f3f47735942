/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "number.h"

/*
 * The process that last had a port: its listener or UDP socket was closed. Later
 * packets for the port meet no socket.
 */
struct port_key {
	__u64 netns; /* struct net's cookie */
	__u16 port;  /* host byte order */
	__u8 transport;
	__u8 pad[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct port_key);
	__type(value, __u64); /* the process's number */
} last_listeners SEC(".maps");

/* Records that the process with this number gives up the port of sk. */
static __always_inline void note_last_listener(struct sock *sk, __u8 transport, __u64 number)
{
	struct port_key key = {
		.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie),
		.port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport)),
		.transport = transport,
	};

	if (key.port && number != NOBODY && !is_beyond(number))
		bpf_map_update_elem(&last_listeners, &key, &number, BPF_ANY);
}
