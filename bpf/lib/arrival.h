/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "traffic.h"

/*
 * What has arrived on this CPU and no one has claimed. A packet is announced by
 * netif_receive_skb with its length and reaches its socket by cgroup_skb/ingress,
 * on the same CPU, but not one by one: packets come in lists.
 */

/* A device the packet came in on. A bridge is a second one, above its port. */
struct leg {
	__u32 ifindex;
	__u32 link; /* bytes of link header in each packet's count */
	struct count left;
};

struct arrival {
	__u64 head; /* skb->head: a clone shares it, and an skb's own address is soon another's */
	__u64 netns;
	struct leg legs[2];
};

#define ARRIVAL_SLOTS 64

struct arrivals {
	struct arrival slots[ARRIVAL_SLOTS];
	__u32 last;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrivals);
} arrivals SEC(".maps");

/* What a delivery took: the legs of its arrival, and the device it was delivered on. */
#define CLAIM_LEGS 3

struct claimed {
	__u64 netns;
	__u32 ifindex;
	__u32 pad;
	struct count count;
};

static __always_inline struct arrivals *arrivals_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&arrivals, &zero);
}

static __always_inline struct arrival *slot_of(struct arrivals *a, const void *head)
{
	__u64 address = (__u64)head;

	return &a->slots[(address >> 6 ^ address >> 12) & (ARRIVAL_SLOTS - 1)];
}

static __always_inline void arrive(struct sk_buff *skb, __u64 netns, __u32 ifindex, __u32 link,
				   const struct count *c)
{
	struct arrivals *a = arrivals_here();
	struct arrival *slot;
	struct leg *leg;

	if (!a)
		return;
	slot = slot_of(a, skb->head);
	leg = &slot->legs[0];
	if (slot->head == (__u64)skb->head && leg->left.packets && skb->skb_iif == leg->ifindex) {
		leg = &slot->legs[1]; /* a bridge hands the packet to itself */
	} else {
		slot->head = (__u64)skb->head;
		slot->netns = netns;
		slot->legs[1] = (struct leg){};
	}
	leg->ifindex = ifindex;
	leg->link = link;
	leg->left = *c;
	a->last = slot - a->slots;
}

/* The arrival of the packet at head, if anything is left of it. */
static __always_inline struct arrival *arrival_of(const void *head)
{
	struct arrivals *a = arrivals_here();
	struct arrival *slot;

	if (!a)
		return NULL;
	slot = slot_of(a, head);
	return slot->head == (__u64)head && slot->legs[0].left.packets ? slot : NULL;
}

/* Books the whole arrival of skb to an account. */
static __always_inline void claim_whole(struct sk_buff *skb, enum account account)
{
	struct arrival *slot = arrival_of(skb->head);

	if (!slot)
		return;
	for (int i = 0; i < 2; i++) {
		struct leg *leg = &slot->legs[i];

		if (!leg->ifindex)
			continue;
		count_account(slot->netns, leg->ifindex, account, RECEIVE, &leg->left);
		leg->left = (struct count){};
	}
}

static __always_inline __u64 take_at_most(__u64 *left, __u64 want)
{
	__u64 taken = want < *left ? want : *left;

	*left -= taken;
	return taken;
}

/*
 * The packets that were reassembled into one of l3 bytes, if it was: all but
 * the last are as long as the longest, whose length the kernel keeps.
 */
static __always_inline bool measure_fragments(struct __sk_buff *ctx, __u32 link, struct count *c)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	__u32 longest, header, fragment_header = 0, payload, n, l3 = ctx->len;
	void *cb = (void *)skb + bpf_core_field_offset(struct sk_buff, cb);

	if (ctx->protocol == bpf_htons(ETH_P_IP)) {
		longest = BPF_CORE_READ((struct inet_skb_parm *)cb, frag_max_size);
		header = (__u16)(BPF_CORE_READ(skb, transport_header) - BPF_CORE_READ(skb, network_header));
	} else {
		longest = BPF_CORE_READ((struct inet6_skb_parm *)cb, frag_max_size);
		header = 40;
		fragment_header = 8;
	}
	if (longest <= header + fragment_header || l3 <= longest)
		return false;
	payload = (longest - header - fragment_header) & ~7U;
	if (!payload)
		return false;
	n = (l3 - header + payload - 1) / payload;
	c->packets = c->frames = n;
	c->bytes = c->frame_bytes = l3 + n * (link + fragment_header) + (n - 1) * header;
	return true;
}

/* What one delivery takes of a leg: all of its own arrival, else what is left. */
static __always_inline void claim_leg(struct __sk_buff *ctx, struct leg *leg, bool own, struct count *c)
{
	__u32 segments = ctx->gso_segs, len = ctx->len + leg->link;

	if (own) {
		*c = leg->left;
		if (len > leg->left.bytes)
			measure_fragments(ctx, leg->link, c);
		leg->left = (struct count){};
		return;
	}
	c->packets = take_at_most(&leg->left.packets, 1);
	c->bytes = take_at_most(&leg->left.bytes, len);
	c->frames = take_at_most(&leg->left.frames, segments ? segments : 1);
	c->frame_bytes = take_at_most(&leg->left.frame_bytes, len);
}

/*
 * Whether slot is the arrival of this delivery, and not of another packet that
 * was at the same address. A packet is never longer than it arrived, but for
 * one that was reassembled.
 */
static __always_inline bool is_own(struct __sk_buff *ctx, struct arrival *slot, const void *head)
{
	struct count c;

	if (slot->head != (__u64)head || !slot->legs[0].left.packets)
		return false;
	return ctx->len + slot->legs[0].link <= slot->legs[0].left.bytes ||
	       measure_fragments(ctx, slot->legs[0].link, &c);
}

/* The device that delivers, where the packet arrived on another one below it. */
static __always_inline void claim_delivery_device(struct __sk_buff *ctx, __u32 link, struct claimed *to,
						  const struct count *c)
{
	struct net_device *dev = BPF_CORE_READ((struct sk_buff *)ctx, dev);

	if (!dev)
		return;
	to->netns = BPF_CORE_READ(dev, nd_net.net, net_cookie);
	to->ifindex = ctx->ifindex;
	to->count = *c;
	if (link && !counts_link_header(dev, BPF_CORE_READ(dev, flags))) {
		to->count.bytes -= link * c->packets;
		to->count.frame_bytes -= link * c->frames;
	}
	count_account(to->netns, to->ifindex, ACCOUNT_ARRIVED, RECEIVE, &to->count);
	book_n(BOOK_SEEN, to->count.packets);
}

/* Fills claims with what this delivery takes; false when nothing is left: a copy. */
static __always_inline bool claim_delivery(struct __sk_buff *ctx, struct claimed claims[CLAIM_LEGS])
{
	void *head = BPF_CORE_READ((struct sk_buff *)ctx, head);
	struct arrivals *a = arrivals_here();
	struct arrival *slot;
	bool own;

	if (!a)
		return false;
	slot = slot_of(a, head);
	own = is_own(ctx, slot, head);
	if (!own)
		slot = &a->slots[a->last & (ARRIVAL_SLOTS - 1)];
	if (!slot->legs[0].left.bytes)
		return false;
	for (int i = 0; i < 2; i++) {
		if (!slot->legs[i].ifindex)
			continue;
		claims[i].netns = slot->netns;
		claims[i].ifindex = slot->legs[i].ifindex;
		claim_leg(ctx, &slot->legs[i], own, &claims[i].count);
	}
	if (ctx->ifindex != claims[0].ifindex && ctx->ifindex != claims[1].ifindex)
		claim_delivery_device(ctx, slot->legs[0].link, &claims[2], &claims[0].count);
	return true;
}
