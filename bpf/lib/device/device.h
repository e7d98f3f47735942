/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/types.h"

#define NETDEV_HASH_MASK 255 /* NETDEV_HASHENTRIES - 1 */
#define MAX_BUCKET 32        /* how many devices of a bucket are compared */

/*
 * skb->dev, skb->sk and skb->_skb_refdst are in unions: a queued datagram has a length in the place
 * of its device, and a TCP segment a tree node. So a pointer is trusted only if it leads to a
 * network namespace. A namespace is recognized by its operations, which are the same for all of
 * them, and which are read from the running task.
 */
const void *netns_operations;

static __always_inline bool is_netns(struct net *net)
{
	if (!netns_operations) {
		struct task_struct *task = (void *)bpf_get_current_task();

		netns_operations = BPF_CORE_READ(task, nsproxy, net_ns, ns.ops);
	}
	return netns_operations && BPF_CORE_READ(net, ns.ops) == netns_operations;
}

/* The namespace of an skb, found by its socket or its route. */
static __always_inline struct net *netns_of(struct sk_buff *skb, struct sock *sk)
{
	struct dst_entry *dst;
	struct net *net;

	net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	if (is_netns(net))
		return net;
	dst = (void *)(skb->_skb_refdst & ~1UL); /* SKB_DST_NOREF */
	net = BPF_CORE_READ(dst, dev, nd_net.net);
	return is_netns(net) ? net : NULL;
}

static __always_inline struct net_device *find_device(struct net *net, int ifindex)
{
	struct hlist_head *bucket = BPF_CORE_READ(net, dev_index_head) + (ifindex & NETDEV_HASH_MASK);
	struct hlist_node *node = BPF_CORE_READ(bucket, first);

	for (int i = 0; node && i < MAX_BUCKET; i++) {
		struct net_device *dev = (void *)node - bpf_core_field_offset(struct net_device, index_hlist);

		if (BPF_CORE_READ(dev, ifindex) == ifindex)
			return dev;
		node = BPF_CORE_READ(node, next);
	}
	return NULL;
}

/*
 * The device of an skb, or the one on which it arrived if TCP has cleared the pointer, and its
 * namespace; NULL if neither is known. sk may be NULL.
 */
static __always_inline struct net_device *device_of(struct sk_buff *skb, struct sock *sk, struct net **net)
{
	struct net_device *dev = skb->dev;

	*net = BPF_CORE_READ(dev, nd_net.net);
	if (is_netns(*net))
		return dev;
	if (!skb->skb_iif)
		return NULL;
	*net = netns_of(skb, sk);
	return *net ? find_device(*net, skb->skb_iif) : NULL;
}
