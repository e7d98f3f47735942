/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "count.h"
#include "tun.h"
#include "wireguard.h"
#include "../kernel/cpu.h"
#include "../packet/headers.h"

/*
 * The packet that a device was last given on this CPU. It is kept because the device may refuse it.
 * Of the most frequent kind only the number of its process and the second word are noted, which is
 * the bytes of its only frame. What else it is then can be found out from the device.
 */
struct handed {
	__u64 skb;
	__u32 bytes;
	__u16 below;    /* of the first: how many packets were passed on meanwhile */
	__u8 account;   /* enum account: the account on which it was counted */
	__u8 is_whole;  /* key and count are set */
	struct traffic_key key;
	struct count count;
};

_Static_assert(ACCOUNT_PROCESS == 0, "a frame's account is in the second word of struct handed");

static __always_inline void note_frame(struct handed *h, struct sk_buff *skb, __u64 number, __u32 bytes)
{
	h->skb = (__u64)skb;
	*(__u64 *)&h->bytes = bytes;
	h->key.number = number;
}

/*
 * What this CPU passes to devices. While the first device has a packet, it may pass it on to a
 * device below, and so on: a VLAN to a bond, and the bond to a network card.
 */
struct handing {
	__u64 seen;   /* packets passed to devices, minus those that were refused */
	__u64 device; /* the first device while it has a packet; 0: none */
	__u64 sk;     /* the socket of this packet; 0: none */
	struct handed first;
	struct handed by[8]; /* those below it, by their ifindex */
} __attribute__((aligned(64))); /* a cache line has all that is noted of the most frequent kind of packet */

#define MAX_BELOW 4096 /* beyond this the end of the first was missed, and this is another packet */

struct handing handing OF_CPU(handing);

/* Whether dev is given a packet while another device, above it, has one. */
static __always_inline bool is_handed_on(struct handing *now, struct net_device *dev)
{
	return now->device && now->device != (__u64)dev && ++now->first.below < MAX_BELOW;
}

static __always_inline struct handed *handed_to(struct handing *now, struct net_device *dev)
{
	return &now->by[dev->ifindex & 7];
}

/*
 * Whether skb is the packet that the first device was given, or was made from it. The copy that
 * MACsec makes has no socket.
 */
static __always_inline bool is_of_first(struct handing *now, struct sk_buff *skb)
{
	return now->first.skb == (__u64)skb || (skb->sk ? now->sk == (__u64)skb->sk : skb->protocol == bpf_htons(ETH_P_MACSEC));
}

static __always_inline bool is_of_process(const struct handed *h)
{
	return h->account == ACCOUNT_PROCESS || h->account == ACCOUNT_WAITING;
}

static __always_inline bool has_tag(struct sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_8021Q) || skb->protocol == bpf_htons(ETH_P_8021AD) ||
	    skb->protocol == bpf_htons(ETH_P_MACSEC))
		return true;
	if (bpf_core_field_exists(skb->vlan_all))
		return skb->vlan_all;
	return BPF_CORE_READ_BITFIELD((struct sk_buff___before_6_2 *)skb, vlan_present);
}

/* Set if there is an xfrm interface. */
bool with_xfrm;

static __always_inline __u8 outer_transport_of(struct sk_buff *skb)
{
	return transport_of(skb->head + skb->network_header, bpf_ntohs(skb->protocol));
}

/*
 * Whether a socket's packet is inside one that was made by a device which leaves no trace of it. If
 * there is an xfrm interface, all ESP packets are taken for such.
 */
static __noinline bool is_inside(struct sk_buff *skb, struct sock *sk, struct net_device *dev)
{
	if (with_xfrm && outer_transport_of(skb) == IPPROTO_ESP)
		return true;
	return with_wireguard && is_in_wireguard(skb, sk, dev);
}

/*
 * Whether a socket's packet has been on a device above dev before, even though that device no
 * longer has it: it waited in the queue of dev. This is known because a socket does not send
 * through a port of a bond or a bridge, adds no VLAN tag, and sends its packets first on a device
 * of its own namespace. There they are in no other packet, unless a route or a policy of xfrm says
 * so.
 */
static __always_inline bool has_been_above(struct sk_buff *skb, struct sock *sk, struct net_device *dev)
{
	if (sk->__sk_common.skc_net.net != dev->nd_net.net)
		return true;
	if (BPF_CORE_READ_BITFIELD(skb, encapsulation)) {
		__u8 outer = outer_transport_of(skb);

		if (outer != IPPROTO_ESP)
			return outer != IPPROTO_ROUTING;
	}
	if (with_special && is_inside(skb, sk, dev))
		return true;
	if (!has_upper(dev) || sk->__sk_common.skc_family == AF_PACKET)
		return false;
	return dev->flags & IFF_SLAVE || BPF_CORE_READ_BITFIELD(dev, priv_flags) & (IFF_BRIDGE_PORT | IFF_TEAM_PORT) ||
	       has_tag(skb);
}
