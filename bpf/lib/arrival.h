/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "count.h"

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
	__u64 number; /* how many arrived before it */
	struct leg legs[2];
};

#define ARRIVAL_AGE 128   /* twice what a driver hands up at once: what is older is claimed by nobody */
#define ARRIVAL_SLOTS 256 /* most are free, so that one is near where a packet's place is */
#define ARRIVAL_PROBES 4

struct arrivals {
	struct arrival slots[ARRIVAL_SLOTS];
	__u64 number;
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

struct claims {
	struct claimed by[CLAIM_LEGS];
};

static __always_inline struct arrivals *arrivals_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&arrivals, &zero);
}

/* Read by a helper, for a pointer that the verifier knows of cannot be hashed. */
static __always_inline __u64 head_of(const void *skb)
{
	return (__u64)BPF_CORE_READ((struct sk_buff *)skb, head);
}

static __always_inline __u32 hash_of(__u64 head)
{
	return head >> 6 ^ head >> 13;
}

/* Whether nobody will claim what the slot has: it is claimed, or too old. */
static __always_inline bool is_free(struct arrivals *a, struct arrival *slot)
{
	return !slot->legs[0].left.packets || a->number - slot->number >= ARRIVAL_AGE;
}

/*
 * Where a packet's arrival is noted: where it was noted before, on the port of a
 * bridge, else in a free place; the last resort is another's.
 */
static __always_inline __u32 place_for(struct arrivals *a, __u64 head)
{
	__u32 at = hash_of(head), place = at + ARRIVAL_PROBES - 1;
	bool found = false;

	for (int i = 0; i < ARRIVAL_PROBES; i++) {
		struct arrival *slot = &a->slots[(at + i) & (ARRIVAL_SLOTS - 1)];

		if (slot->head == head)
			return (at + i) & (ARRIVAL_SLOTS - 1);
		if (!found && is_free(a, slot)) {
			place = at + i;
			found = true;
		}
	}
	return place & (ARRIVAL_SLOTS - 1);
}

/* Where it was noted, if anywhere. */
static __always_inline struct arrival *find(struct arrivals *a, __u64 head)
{
	__u32 at = hash_of(head);

	for (int i = 0; i < ARRIVAL_PROBES; i++) {
		struct arrival *slot = &a->slots[(at + i) & (ARRIVAL_SLOTS - 1)];

		if (slot->head == head)
			return slot;
	}
	return NULL;
}

static __always_inline void arrive(struct sk_buff *skb, __u64 netns, __u32 ifindex, __u32 link,
				   const struct count *c)
{
	struct arrivals *a = arrivals_here();
	__u64 head = head_of(skb);
	struct arrival *slot;
	struct leg *leg;
	__u32 at;

	if (!a)
		return;
	at = place_for(a, head);
	slot = &a->slots[at & (ARRIVAL_SLOTS - 1)];
	leg = &slot->legs[0];
	if (slot->head == head && leg->left.packets && skb->skb_iif == leg->ifindex) {
		leg = &slot->legs[1]; /* a bridge hands the packet to itself */
	} else {
		slot->head = head;
		slot->netns = netns;
		slot->legs[1] = (struct leg){};
	}
	slot->number = a->number++;
	leg->ifindex = ifindex;
	leg->link = link;
	leg->left = *c;
	a->last = at;
}

/* Books the whole arrival of skb to an account. */
static __always_inline void claim_whole(struct sk_buff *skb, enum account account)
{
	struct arrivals *a = arrivals_here();
	struct arrival *slot = a ? find(a, head_of(skb)) : NULL;

	if (!slot || is_free(a, slot))
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

/* Turns what a delivery wants of a leg into what it gets. */
__noinline int take_rest(struct leg *leg, struct count *c)
{
	if (!leg || !c)
		return 0;
	c->packets = take_at_most(&leg->left.packets, c->packets);
	c->bytes = take_at_most(&leg->left.bytes, c->bytes);
	c->frames = take_at_most(&leg->left.frames, c->frames);
	c->frame_bytes = take_at_most(&leg->left.frame_bytes, c->frame_bytes);
	return 0;
}

/*
 * The packets that were reassembled into one of l3 bytes, if it was: all but
 * the last are as long as the longest, whose length the kernel keeps. Link
 * headers are left to the caller.
 */
__noinline int measure_fragments(struct __sk_buff *ctx, struct count *c)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	__u32 longest, header, fragment_header = 0, payload, n, l3 = ctx->len;
	void *cb = (void *)skb + bpf_core_field_offset(struct sk_buff, cb);

	if (!c)
		return false;
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
	c->bytes = c->frame_bytes = l3 + n * fragment_header + (n - 1) * header;
	return true;
}

static __always_inline void add_link(struct count *c, __u32 link)
{
	c->bytes += link * c->packets;
	c->frame_bytes += link * c->frames;
}

/* How a delivery relates to what has arrived. */
enum match {
	WHOLE, /* it is the arrival at its slot */
	PARTS, /* it was reassembled from the last arrival and others */
	OTHER, /* it is a part or a copy of the last arrival */
};

/*
 * A packet is never longer than it arrived, but for one that was reassembled: a
 * longer one is another packet that is now at the same address.
 */
static __always_inline enum match match_of(struct __sk_buff *ctx, struct arrival *slot, struct count *parts)
{
	if (slot && ctx->len + slot->legs[0].link <= slot->legs[0].left.bytes)
		return WHOLE;
	return measure_fragments(ctx, parts) ? PARTS : OTHER;
}

/* What one delivery takes of a leg. */
static __always_inline void claim_leg(struct __sk_buff *ctx, struct leg *leg, enum match match,
				      const struct count *parts, struct count *c)
{
	__u32 segments = ctx->gso_segs;

	switch (match) {
	case WHOLE:
		*c = leg->left;
		leg->left = (struct count){};
		break;
	case PARTS:
		*c = *parts;
		add_link(c, leg->link);
		leg->left = (struct count){};
		break;
	case OTHER:
		c->packets = 1;
		c->frames = segments ? segments : 1;
		c->bytes = c->frame_bytes = ctx->len + leg->link;
		take_rest(leg, c);
		break;
	}
}

/* The device that delivers, where the packet arrived on another one below it. */
static __always_inline void claim_delivery_device(struct __sk_buff *ctx, struct claimed *to,
						  const struct count *c)
{
	struct net_device *dev = BPF_CORE_READ((struct sk_buff *)ctx, dev);

	if (!dev)
		return;
	to->netns = BPF_CORE_READ(dev, nd_net.net, net_cookie);
	to->ifindex = ctx->ifindex;
	to->count = *c;
	count_account(to->netns, to->ifindex, ACCOUNT_ARRIVED, RECEIVE, &to->count);
	book_n(BOOK_SEEN, to->count.packets);
}

/* Fills claims with what this delivery takes; false when nothing is left: a copy. */
__noinline int claim_delivery(struct __sk_buff *ctx, struct claims *claims)
{
	struct arrivals *a = arrivals_here();
	struct count parts = {};
	struct arrival *slot;
	enum match match;

	if (!a || !claims)
		return false;
	slot = find(a, head_of(ctx));
	match = match_of(ctx, slot, &parts);
	if (match == PARTS && slot) { /* its first fragment is in what it claims */
		slot->legs[0].left = (struct count){};
		slot->legs[1].left = (struct count){};
	}
	if (match != WHOLE) /* the last fragment to arrive is what completes a packet */
		slot = &a->slots[a->last & (ARRIVAL_SLOTS - 1)];
	if (!slot || !slot->legs[0].left.bytes)
		return false;
	for (int i = 0; i < 2; i++) {
		struct claimed *to = &claims->by[i];

		if (!slot->legs[i].ifindex)
			continue;
		to->netns = slot->netns;
		to->ifindex = slot->legs[i].ifindex;
		claim_leg(ctx, &slot->legs[i], match, &parts, &to->count);
	}
	if (ctx->ifindex != claims->by[0].ifindex && ctx->ifindex != claims->by[1].ifindex)
		claim_delivery_device(ctx, &claims->by[2], &claims->by[0].count);
	return true;
}
