/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "count.h"
#include "../kernel/cpu.h"
#include "../kernel/interrupt.h"
#include "../kernel/verifier.h"
#include "../device/kind.h"
#include "../packet/headers.h"
#include "../packet/segments.h"
#include "tun.h"

/* What the user wants told apart, and whether that is anything. */
const volatile bool with_transport;
const volatile bool with_type;
const volatile bool with_detail;

/*
 * The packets that have arrived on this CPU and that no account has claimed yet. netif_receive_skb
 * announces a packet with its length, and cgroup_skb/ingress runs when it reaches its socket, on
 * the same CPU. But these do not alternate, as packets come in lists.
 */

/* The same as struct count for one skb, in less space. */
struct part {
	__u32 bytes;
	__u32 frame_bytes;
	__u16 packets;
	__u16 frames;
};

/*
 * A device on which the packet arrived. A bridge is one device above its port, and the device of a
 * tunnel is one above that on which the outer packet arrived.
 */
struct leg {
	__u64 netns;
	__u32 ifindex;
	__u32 device; /* the low half of its address */
	__u16 link;   /* bytes of all headers before the network header that the device counts for each packet */
	__u8 outer;   /* the packet arrived inside another one, which only a process may claim */
	struct part left;
};

#define LEGS 3 /* the port of a bridge, the bridge, and a tunnel through it */

struct arrival {
	__u64 head; /* skb->head, because a clone shares it, and an skb's own address is soon used again */
	__u64 number; /* how many arrived before it */
	__u32 end;  /* of the last leg: where the packet ends, counted from head */
	__u16 from; /* and where its network header is */
	__u16 legs; /* how many there are */
	struct leg by[LEGS];
} __attribute__((aligned(64))); /* a cache line has all of a packet with one leg */

#define ARRIVAL_AGE 128   /* twice what a driver passes on at once; nobody claims what is older */
#define ARRIVAL_SLOTS 256 /* most are free, so a free one is near the place of a packet */
#define ARRIVAL_PROBES 4

struct arrivals {
	__u64 number;
	__u64 seen; /* packets received */
	__u32 last;
	__u32 pad;
	struct arrival slots[ARRIVAL_SLOTS];
};

struct arrivals arrivals OF_CPU(arrivals);

/* One delivery to a socket. */
struct delivery {
	enum account below; /* the account of the packet on devices below the one that delivers it */
	__u32 ifindex;      /* of the device that delivers it */
	__u64 netns;
	struct count count; /* as that device counts the packet */
};

static __always_inline __u64 head_of(struct __sk_buff *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;

	if (!bpf_cast_to_kern_ctx)
		return (__u64)BPF_CORE_READ(skb, head);
	skb = bpf_cast_to_kern_ctx(ctx);
	return (__u64)skb->head;
}

static __always_inline __u32 hash_of(__u64 head)
{
	__u32 half = hashable((void *)head);

	return half >> 6 ^ half >> 13;
}

static __always_inline bool is_claimed(struct arrival *slot)
{
	return !slot->by[0].left.packets;
}

/* Whether nobody will claim what the slot has, because it is claimed already or too old. */
static __always_inline bool is_free(struct arrivals *a, struct arrival *slot)
{
	return is_claimed(slot) || a->number - slot->number >= ARRIVAL_AGE;
}

/*
 * The slot for the arrival of a packet: the slot that it has from a device below, or else a free
 * one. If there is neither, the slot of another packet is taken.
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

/* The slot of a packet's arrival, or NULL. */
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

/*
 * Whether a device passes on what another device sent, in a buffer that may have belonged to any
 * packet before, or is one of WireGuard, which passes a packet on so late that the packet around it
 * has been freed.
 */
static __always_inline bool is_end_of_pair(struct net_device *dev)
{
	struct kind kind = kind_of(dev);

	return !kind.name[0] || IS_KIND(kind, "veth") || IS_KIND(kind, "netkit") || IS_KIND(kind, "tun") ||
	       IS_KIND(kind, "wireguard");
}

static __always_inline void put_inside(struct leg *leg, __u32 inner)
{
	leg->outer = true;
	leg->link += inner;
}

/*
 * Adds what was around a packet in the same buffer, before it and after it, to what the devices
 * below count.
 */
static __noinline int unwrap(struct arrival *slot, __u32 length)
{
	__u32 around, was;

	if (!slot)
		return 0;
	was = slot->end - slot->from;
	if (length >= was)
		return 0;
	around = was - length;
	slot->by[0].link += around;
	if (slot->legs > 1)
		slot->by[1].link += around;
	if (slot->legs > 2)
		slot->by[2].link += around;
	return 0;
}

/*
 * The number of legs of the slot, which has an unclaimed arrival in the same buffer, that are below
 * this arrival; 0 if it is another packet. A bridge passes to itself what arrived on its port, and
 * MACsec the packet that was inside. A tunnel does the same, but clears where the packet arrived.
 */
static __noinline __u32 legs_below(struct arrival *slot, struct sk_buff *skb, __u32 from, __u32 end)
{
	__u32 legs, inner;

	if (!slot)
		return 0;
	legs = slot->legs;
	if (legs == 0 || legs >= LEGS)
		return 0;
	if (skb->skb_iif) {
		if (skb->skb_iif != (legs == 1 ? slot->by[0] : slot->by[1]).ifindex)
			return 0;
		if (from > slot->from)
			unwrap(slot, end - from);
		return legs;
	}
	if (from <= slot->from || end > slot->end || is_end_of_pair(skb->dev))
		return 0;
	inner = from - slot->from;
	put_inside(&slot->by[0], inner);
	if (legs == 2)
		put_inside(&slot->by[1], inner);
	return legs;
}

static __always_inline void set_leg(struct leg *leg, struct net_device *dev, __u64 netns, __u32 ifindex)
{
	leg->netns = netns;
	leg->ifindex = ifindex;
	leg->device = (__u64)dev;
}

/* Records what may be claimed of what has arrived on a device. */
static __always_inline void leave(struct leg *leg, __u32 link, const struct part *part)
{
	leg->link = link;
	leg->outer = false;
	leg->left = *part;
}

/*
 * Records the arrival of a packet, whose network header is at from, counted from skb->head. part is
 * what may be claimed of it.
 */
static __always_inline void arrive(struct arrivals *a, struct sk_buff *skb, struct net_device *dev, __u64 netns,
				   __u32 ifindex, __u32 from, __u32 link, const struct part *part)
{
	__u64 head = (__u64)skb->head;
	__u32 at = hash_of(head) & (ARRIVAL_SLOTS - 1), end = from + skb->len, below = 0;
	struct arrival *slot = &a->slots[at];
	struct leg *leg;

	if (slot->head != head) {
		at = place_for(a, head);
		slot = &a->slots[at & (ARRIVAL_SLOTS - 1)];
	}
	if (!is_claimed(slot) && slot->head == head)
		below = legs_below(slot, skb, from, end);
	slot->head = head;
	slot->from = from;
	slot->end = end;
	slot->legs = below + 1;
	slot->number = a->number++;
	leg = below == 0 ? &slot->by[0] : below == 1 ? &slot->by[1] : &slot->by[2];
	set_leg(leg, dev, netns, ifindex);
	leave(leg, link, part);
	a->last = at;
}

#define MAX_PADDING 15 /* of encrypted data, to whole blocks */

/*
 * Decrypted packets were merged with earlier ones, in the buffer of the first. Each of them arrived
 * in a packet of its own, and all but the last are as long as the first. It is not known how much
 * padding that one had, so what may be too much is left unclaimed.
 */
static __noinline int join(struct arrival *slot, struct sk_buff *skb, __u32 from)
{
	__u32 len = skb->len, size = gso_size_of(skb), headers, first, around, bytes;
	struct count c = count_of_frame(len);

	measure_pieces(&c, skb, from, len, size);
	if (c.frames < 2 || slot->legs != 1 || slot->by[0].left.packets != 1)
		return 0;
	headers = (c.frame_bytes - len) / (c.frames - 1);
	first = headers + size;
	if (slot->by[0].left.bytes <= first)
		return 0;
	around = slot->by[0].left.bytes - first;
	bytes = c.frame_bytes + c.frames * around;
	if (c.frame_bytes != c.frames * first)
		bytes -= around < MAX_PADDING ? around : MAX_PADDING;
	slot->by[0].left = (struct part){ .packets = c.frames, .bytes = bytes, .frames = c.frames, .frame_bytes = bytes };
	return 0;
}

/*
 * A packet that was inside another one and arrives on the same device, because a policy of xfrm has
 * decrypted it. The device has already counted it together with all that was around it.
 */
static __always_inline void arrive_again(struct arrivals *a, struct sk_buff *skb, __u32 from)
{
	__u64 head = (__u64)skb->head;
	__u32 at = place_for(a, head);
	struct arrival *slot = &a->slots[at & (ARRIVAL_SLOTS - 1)];

	if (slot->head != head || is_free(a, slot))
		return;
	if (gso_size_of(skb))
		join(slot, skb, from);
	else
		unwrap(slot, skb->len);
	slot->from = from;
	slot->end = from + skb->len;
	slot->number = a->number++;
	a->last = at;
}

static __always_inline struct count whole(const struct part *part)
{
	return (struct count){
		.packets = part->packets,
		.bytes = part->bytes,
		.frames = part->frames,
		.frame_bytes = part->frame_bytes,
	};
}

/*
 * Counts what was forwarded from a device. If a process has the device's file open, it is that
 * process's.
 */
static __always_inline void count_forwarded(struct sk_buff *skb, const struct leg *leg, const struct count *c)
{
	struct traffic_key key = { .netns = leg->netns, .ifindex = leg->ifindex, .direction = RECEIVE };

	key.number = tun_writer(leg->netns, leg->ifindex);
	if (!key.number) {
		count_account(leg->netns, leg->ifindex, ACCOUNT_FORWARDED, RECEIVE, c);
		return;
	}
	if (with_type)
		key.type = bpf_ntohs(skb->protocol);
	if (with_transport)
		key.transport = transport_of(skb->head + skb->network_header, bpf_ntohs(skb->protocol));
	count_process(&key, c);
}

/*
 * Counts the whole arrival of skb on an account. If it arrived inside another packet, that one
 * stays unclaimed because it belongs to the tunnel.
 */
static __always_inline void claim_whole(struct sk_buff *skb, enum account account)
{
	struct arrivals *a = HERE(arrivals);
	struct arrival *slot = find(a, (__u64)skb->head);

	if (!slot || is_free(a, slot))
		return;
	for (int i = 0; i < LEGS; i++) {
		struct leg *leg = &slot->by[i];
		struct count c;

		if (i == slot->legs)
			break;
		c = whole(&leg->left);
		leg->left = (struct part){};
		if (leg->outer)
			continue;
		if (account == ACCOUNT_FORWARDED)
			count_forwarded(skb, leg, &c);
		else
			count_account(leg->netns, leg->ifindex, account, RECEIVE, &c);
	}
}

/* Takes from what is left, and at most what is wanted. */
#define TAKE(left, want)                                        \
	({                                                      \
		__u64 taken = (want) < (left) ? (want) : (left); \
		(left) -= taken;                                \
		taken;                                          \
	})

/* Reduces what a delivery wants from a leg to what it gets. */
__noinline int take_rest(struct leg *leg, struct count *c)
{
	if (!leg || !c)
		return 0;
	c->packets = TAKE(leg->left.packets, c->packets);
	c->bytes = TAKE(leg->left.bytes, c->bytes);
	c->frames = TAKE(leg->left.frames, c->frames);
	c->frame_bytes = TAKE(leg->left.frame_bytes, c->frame_bytes);
	return 0;
}

/*
 * Computes the fragments that were reassembled into a packet, if it was. All but the last are as
 * long as the longest, whose length the kernel keeps. The caller adds the link headers.
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
 * A packet is never longer than when it arrived, unless it was reassembled. So a longer one is
 * another packet that is now at the same address.
 */
static __always_inline enum match match_of(struct __sk_buff *ctx, struct arrival *slot, struct count *parts)
{
	if (slot && ctx->len + slot->by[0].link <= slot->by[0].left.bytes)
		return WHOLE;
	return measure_fragments(ctx, parts) ? PARTS : OTHER;
}

/* Computes what is delivered, as a device counts it that adds link bytes to each packet. */
static __always_inline void measure_delivery(struct __sk_buff *ctx, __u32 link, enum match match,
					     const struct count *parts, struct count *c)
{
	__u32 segments = ctx->gso_segs;

	if (match == PARTS) {
		*c = *parts;
		add_link(c, link);
		return;
	}
	c->packets = 1;
	c->frames = segments ? segments : 1;
	c->bytes = c->frame_bytes = ctx->len + link;
}

/* Takes from a leg what one delivery gets. */
static __always_inline void claim_leg(struct __sk_buff *ctx, struct leg *leg, enum match match,
				      const struct count *parts, struct count *c)
{
	if (match == WHOLE) {
		*c = whole(&leg->left);
		leg->left = (struct part){};
		return;
	}
	measure_delivery(ctx, leg->link, match, parts, c);
	if (match == PARTS)
		leg->left = (struct part){};
	else
		take_rest(leg, c);
}

static __always_inline __u64 netns_of_device(struct __sk_buff *ctx)
{
	return BPF_CORE_READ((struct sk_buff *)ctx, dev, nd_net.net, net_cookie);
}

/* Counts a packet on the device that delivers it, though it arrived on another one below. */
static __always_inline void arrive_at_delivery(struct arrivals *a, struct __sk_buff *ctx, struct delivery *d)
{
	d->netns = netns_of_device(ctx);
	d->ifindex = ctx->ifindex;
	add_to_account(d->netns, d->ifindex, ACCOUNT_ARRIVED, RECEIVE, &d->count);
	__sync_fetch_and_add(&a->seen, d->count.packets);
}

/*
 * Whether the device of a leg delivers a packet. The index alone does not tell, because devices of
 * different namespaces can have the same one.
 */
static __always_inline bool delivers(struct __sk_buff *ctx, struct leg *leg)
{
	struct sk_buff *skb;

	if (leg->ifindex != ctx->ifindex)
		return false;
	if (!bpf_cast_to_kern_ctx)
		return leg->device == (__u32)(__u64)BPF_CORE_READ((struct sk_buff *)ctx, dev);
	skb = bpf_cast_to_kern_ctx(ctx);
	return leg->device == (__u32)(__u64)skb->dev;
}

/* Whether it is one packet that is one frame. */
static __always_inline bool is_frame(const struct part *part)
{
	return *(const __u32 *)&part->packets == 0x10001; /* and frames, in the same word */
}

/*
 * Whether a packet continues after a verdict. It then continues in the system call of the program
 * that gave the verdict, and not in a soft interrupt or a kernel thread. The same is true of what
 * is written to a tun or tap device, which is excluded here.
 */
static __always_inline bool is_verdict(struct sk_buff *skb)
{
	__u64 position;

	asm volatile("%[to] = w10" : [to] "=w"(position));
	if (THIS_TASK(flags) & PF_KTHREAD || !is_system_call(position))
		return false;
	return !IS_KIND(kind_of(BPF_CORE_READ(skb, dev)), "tun");
}

/* Whether a device delivers what arrived on another one below it. */
static __always_inline bool has_lower(struct net_device *dev)
{
	struct list_head *lower = (void *)dev + bpf_core_field_offset(struct net_device, adj_list.lower);

	return BPF_CORE_READ(lower, next) != lower;
}

/*
 * Counts a packet that the kernel held back, for example for a program that reads a queue of
 * netfilter, and that continues after the verdict, on whatever CPU that was given. It has been in
 * ACCOUNT_ARRIVED since it arrived if its device is the one on which it arrived.
 */
static __always_inline void take_up(struct arrivals *a, struct __sk_buff *ctx, enum match match,
				    const struct count *parts, struct delivery *d)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	__u32 link = 0;

	if (!(BPF_CORE_READ(dev, flags) & IFF_LOOPBACK))
		link = (__u16)(BPF_CORE_READ(skb, network_header) - BPF_CORE_READ(skb, mac_header));
	measure_delivery(ctx, link, match, parts, &d->count);
	if (has_lower(dev)) {
		arrive_at_delivery(a, ctx, d);
		return;
	}
	d->netns = netns_of_device(ctx);
	d->ifindex = ctx->ifindex;
}

/*
 * Finds a whole packet of one frame that arrived on no other device than the one that delivers it;
 * NULL if it is anything else. skb is the context, and has_type tells whether it has its type for the
 * verifier.
 */
static __always_inline struct leg *find_frame(struct __sk_buff *ctx, struct sk_buff *skb, const bool has_type)
{
	__u64 head = has_type ? (__u64)skb->head : (__u64)BPF_CORE_READ(skb, head);
	struct arrivals *a = HERE(arrivals);
	struct arrival *slot = &a->slots[hash_of(head) & (ARRIVAL_SLOTS - 1)];
	struct leg *leg = &slot->by[0];

	if (slot->head != head || slot->legs != 1 || !is_frame(&leg->left) || leg->ifindex != ctx->ifindex ||
	    leg->device != (__u32)(__u64)(has_type ? skb->dev : BPF_CORE_READ(skb, dev)) ||
	    a->number - slot->number >= ARRIVAL_AGE || ctx->len + leg->link > leg->left.bytes)
		return NULL;
	return leg;
}

/* Whether a packet is delivered by the device on which it arrived last. */
static __always_inline bool is_delivered(struct __sk_buff *ctx, struct arrival *slot)
{
	return delivers(ctx, slot->legs < 2 ? &slot->by[0] : slot->legs == 2 ? &slot->by[1] : &slot->by[2]);
}

/*
 * Whether the slot at a packet's address is of another packet, which nobody has claimed. If a socket
 * takes no large packets, one is cut into segments before it is delivered. These have buffers of
 * their own, which may have belonged to any packet before.
 */
static __noinline bool is_stale(struct __sk_buff *ctx, struct arrival *slot, struct arrival *last)
{
	return slot && last && slot != last && !is_delivered(ctx, slot) && is_delivered(ctx, last);
}

/*
 * Whether the slot at the address of a packet that was held back is of another one. It may have
 * arrived on another CPU, on which it has its slot, while here another packet had this buffer before.
 */
static __always_inline bool is_of_other(struct __sk_buff *ctx, struct arrival *slot)
{
	return !is_delivered(ctx, slot) && !has_lower(BPF_CORE_READ((struct sk_buff *)ctx, dev));
}

/*
 * Fills d with what the socket gets, and counts the packet on the devices below; false if nothing
 * is left to claim, which means that it is a copy.
 */
__noinline int claim_delivery(struct __sk_buff *ctx, struct delivery *d)
{
	struct arrivals *a = HERE(arrivals);
	struct arrival *slot, *last;
	struct count parts = {};
	enum match match;

	if (!d)
		return false;
	last = &a->slots[a->last & (ARRIVAL_SLOTS - 1)];
	slot = find(a, head_of(ctx));
	if (is_stale(ctx, slot, last))
		slot = NULL;
	if ((!slot || is_free(a, slot) || is_of_other(ctx, slot)) && is_verdict((struct sk_buff *)ctx)) {
		take_up(a, ctx, match_of(ctx, NULL, &parts), &parts, d);
		return true;
	}
	match = match_of(ctx, slot, &parts);
	if (match == PARTS && slot) { /* what it claims includes its first fragment */
		for (int i = 0; i < LEGS; i++)
			slot->by[i].left = (struct part){};
	}
	if (match != WHOLE) /* the fragment that arrived last completes a packet */
		slot = last;
	if (!slot || !slot->by[0].left.bytes)
		return false;
	for (int i = 0; i < LEGS; i++) {
		struct leg *leg = &slot->by[i];

		claim_leg(ctx, leg, match, &parts, &d->count);
		if (i + 1 == slot->legs && delivers(ctx, leg)) {
			d->netns = leg->netns;
			d->ifindex = leg->ifindex;
			return true;
		}
		if (!leg->outer || d->below == ACCOUNT_CARRIED)
			count_account(leg->netns, leg->ifindex, d->below, RECEIVE, &d->count);
		if (i + 1 == slot->legs)
			break;
	}
	arrive_at_delivery(a, ctx, d);
	return true;
}
