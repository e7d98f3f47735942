/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "books.h"
#include "packet.h"

/* Set by user space before a survey; interfaces and namespaces that carry it exist. */
__u64 epoch = 1;

#define IFF_802_1Q_VLAN 0x1 /* priv_flags */
#define IFF_EBRIDGE 0x2     /* priv_flags */

struct interface_key {
	__u64 netns; /* struct net's cookie */
	__u32 ifindex;
	__u32 pad;
};

/* What the numbers of a device mean. */
struct interface_entry {
	__u64 epoch; /* of the last survey that found it */
	char name[16];
	__u32 netns_inode;
	__u8 stacked;  /* has a lower device, which counts the same packets */
	__u8 hardware; /* has a parent that is no network device */
	__u8 bare;     /* of a kind that does not count the link header it receives */
	__u8 link;     /* bytes of link header in what we count; 0 on lo */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct interface_key);
	__type(value, struct interface_entry);
} interfaces SEC(".maps");

/* The network namespaces that have a process. */
struct namespace_entry {
	__u64 epoch; /* of the last survey that found it */
	__u32 inode;
	__u32 pid; /* of a process in it */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct namespace_entry);
} namespaces SEC(".maps");

static __always_inline void know_interface(struct net_device *dev, __u64 netns)
{
	struct interface_entry entry = { .epoch = epoch };
	struct interface_key key = { .netns = netns };
	struct list_head *lower = (void *)dev + bpf_core_field_offset(struct net_device, adj_list.lower);

	key.ifindex = BPF_CORE_READ(dev, ifindex);
	bpf_core_read(entry.name, sizeof(entry.name), &dev->name);
	entry.netns_inode = BPF_CORE_READ(dev, nd_net.net, ns.inum);
	entry.stacked = BPF_CORE_READ(lower, next) != lower;
	entry.bare = !!(BPF_CORE_READ_BITFIELD_PROBED(dev, priv_flags) & (IFF_802_1Q_VLAN | IFF_EBRIDGE));
	if (!(BPF_CORE_READ(dev, flags) & IFF_LOOPBACK))
		entry.link = BPF_CORE_READ(dev, hard_header_len);
	entry.hardware = BPF_CORE_READ(dev, dev.parent) != NULL;
	if (bpf_map_update_elem(&interfaces, &key, &entry, BPF_ANY))
		book(BOOK_LOST_MAP_FULL);
}

/* Inode of the host's network namespace, the one kernel threads are in. */
__u32 host_netns_inode;

#define MAX_INTERFACES 4096     /* of one namespace; the rest are known by their packets */
#define MAX_INTERFACES_5_16 32 /* before bpf_loop(), where each turn is verified */

/* A walk along the devices of a namespace. */
struct walk {
	struct list_head *head;
	struct list_head *at;
	__u64 netns;
};

static long survey_interface(__u32 turn, struct walk *w)
{
	struct list_head *at = w->at;

	if (!at || at == w->head)
		return 1;
	know_interface((void *)at - bpf_core_field_offset(struct net_device, dev_list), w->netns);
	w->at = BPF_CORE_READ(at, next);
	return 0;
}
