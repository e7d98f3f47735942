/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../device/device.h"
#include "../packet/headers.h"
#include "../owner/listener.h"
#include "../packet/packet.h"
#include "../owner/ports.h"
#include "../owner/storage.h"

/* Set by user space where it knows the owners of sockets: the maps of theirs are shared then. */
const volatile bool with_victims;

/* How the process that lost a packet is known. */
enum __attribute__((packed)) victim {
	VICTIM_NONE,
	VICTIM_SOCKET,        /* it owns the socket that the packet came from or was on its way to */
	VICTIM_LAST_LISTENER, /* it was the last to have the port */
};

/*
 * Before Linux 6.11 kfree_skb does not say to which socket a packet was on its way: it is the
 * one that cgroup_skb/ingress met last on this CPU with the same skb. Set by user space.
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
	last->skb = (__u64)ctx; /* it is the struct sk_buff */
	last->sk = (__u64)sk;
}

/*
 * The socket that an skb met, or NULL. The memory of an skb is soon another's, and the
 * socket may be gone, so it must have the port that the packet is for.
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

/* Whose a listener is, by its address. */
static __always_inline __u64 number_of_listener(__u64 address)
{
	struct listener *l = bpf_map_lookup_elem(&listeners, &address);

	return l && !is_orphan(l) ? l->number : NOBODY;
}

/* Whose a socket is: owner is what its storage has, and may be NULL. */
static __always_inline __u64 number_of_owner(struct sock *sk, const struct owner *owner)
{
	__u64 address = (__u64)sk;
	struct user *user;

	if (with_users) {
		user = bpf_map_lookup_elem(&socket_users, &address);
		if (user)
			return user->number;
	}
	return heir_of(owner, 0, 0);
}

/* Whose a socket is. It may be a request, which is its listener's, and no socket at all. */
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

/* The same of a pointer that the verifier trusts. */
static __always_inline __u64 number_by_helper(struct sock *sk)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

	if (state == STATE_NEW_SYN_RECV)
		return number_of_listener(listener_of(sk));
	return number_of_owner(sk, bpf_sk_storage_get(&owners, sk, 0, 0)); /* none of what is no full socket */
}

/* Who had the port last for which a packet is, in a network namespace. */
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
