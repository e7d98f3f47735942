/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../device/device.h"
#include "../packet/headers.h"
#include "../packet/packet.h"
#include "../owner/ports.h"
#include "../owner/storage.h"
#include "../owner/whose.h"

/* Set by user space if it knows the owners of sockets, whose maps are then shared. */
const volatile bool with_victims;

/* How the process that lost a packet is known. */
enum __attribute__((packed)) victim {
	VICTIM_NONE,
	VICTIM_SOCKET,        /* it owns the socket that the packet came from or was for */
	VICTIM_LAST_LISTENER, /* it was the last to listen on the port */
};

/*
 * Before Linux 6.11 kfree_skb does not tell for which socket a packet was. We take the socket that
 * cgroup_skb/ingress last met on this CPU with the same skb. Set by user space.
 */
const volatile bool with_meetings;

struct meeting {
	__u64 skb;
	__u64 sk;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct meeting);
} meetings SEC(".maps");

static __always_inline void note_meeting(struct __sk_buff *ctx, struct bpf_sock *sk)
{
	__u32 zero = 0;
	struct meeting *last = bpf_map_lookup_elem(&meetings, &zero);

	if (!last)
		return;
	last->skb = (__u64)ctx; /* the context of the program is the struct sk_buff */
	last->sk = (__u64)sk;
}

/*
 * The socket that an skb met, or NULL. The memory of the skb may have been used for another packet,
 * and the socket may be gone, so its port must be the packet's.
 */
static __always_inline struct sock *met_by(struct sk_buff *skb)
{
	__u32 zero = 0;
	struct meeting *last = bpf_map_lookup_elem(&meetings, &zero);
	struct sock *sk;
	__be16 port;

	if (!with_meetings || !last || last->skb != (__u64)skb)
		return NULL;
	sk = (struct sock *)last->sk;
	if (!read_destination_port(&port, skb) || !port)
		return NULL;
	return port == BPF_CORE_READ((struct inet_sock *)sk, inet_sport) ? sk : NULL;
}

/*
 * The number of the process that owns a socket, whose pointer may be invalid. The socket may be a
 * request, which belongs to its listener's process.
 */
static __always_inline __u64 number_by_hand(struct sock *sk)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
	struct owner owner = {};

	if (!is_netns(BPF_CORE_READ(sk, __sk_common.skc_net.net)) || state == STATE_TIME_WAIT)
		return NOBODY;
	if (state == STATE_NEW_SYN_RECV)
		return number_of_listener(listener_of(sk));
	return number_of_owner(sk, copy_owner(&owner, sk) ? &owner : NULL);
}

/* The same for a pointer that the verifier trusts. */
static __always_inline __u64 number_by_helper(struct sock *sk)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

	if (state == STATE_NEW_SYN_RECV)
		return number_of_listener(listener_of(sk));
	return number_of_owner(sk, stored_owner(sk)); /* NULL if it is no full socket */
}

/* The number of the process that last had the port that a packet is for, in a network namespace. */
static __always_inline __u64 number_of_last_listener(struct sk_buff *skb, __u64 netns, __u8 transport)
{
	struct port_key key = { .netns = netns, .transport = transport };
	__u64 *number;
	__be16 port;

	if (transport != IPPROTO_TCP && transport != IPPROTO_UDP)
		return NOBODY;
	if (!read_destination_port(&port, skb))
		return NOBODY;
	key.port = bpf_ntohs(port);
	number = bpf_map_lookup_elem(&last_listeners, &key);
	return number ? *number : NOBODY;
}
