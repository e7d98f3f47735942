/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#pragma once
#include "../kernel/verifier.h"
#include "../program/quota.h"

/*
 * Used by several instruments. Their maps are replaced by those of bpf/interfaces.bpf.c, so that
 * there is one of each.
 */

#define IFF_802_1Q_VLAN 0x1 /* priv_flags */
#define IFF_EBRIDGE 0x2     /* priv_flags */

struct interface_key {
	__u64 netns; /* netns_id() */
	__u32 ifindex;
	__u32 pad;
};

/* What is known of a device. */
struct interface_entry {
	__u64 epoch; /* number of the last survey when it was found or met */
	char name[16];
	char kind[16]; /* rtnl_link_ops' kind; empty for lo and for hardware */
	__u32 netns_inode;
	__u8 hardware; /* its parent device is no network device */
	__u8 bare;     /* its kind does not count the link header of what it receives */
	__u8 link;     /* bytes of link header that we count; 0 on lo */
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct interface_key);
	__type(value, struct interface_entry);
} interfaces SEC(".maps");

/* The shares of network namespaces in map interfaces. */
struct share_map interface_shares SEC(".maps");

/* The number of the last survey, set by user space before it begins. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} surveys SEC(".maps");

static __always_inline __u64 current_epoch(void)
{
	__u32 first = 0;
	__u64 *epoch = bpf_map_lookup_elem(&surveys, &first);

	return epoch ? *epoch : 0;
}

/*
 * A number that identifies a namespace. Since Linux 5.12 it is never used again; before, another
 * namespace may get it later.
 */
static __always_inline __u64 netns_id(struct net *net)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_check_mtu)) /* since 5.12 */
		return BPF_CORE_READ(net, net_cookie);
	return BPF_CORE_READ(net, ns.inum);
}

static __always_inline bool note_device(const struct interface_key *key, const struct interface_entry *entry)
{
	if (bpf_map_lookup_elem(&interfaces, key))
		return !bpf_map_update_elem(&interfaces, key, entry, BPF_ANY);
	if (!has_place(&interface_shares, key->netns, SHARE_OF_INTERFACES))
		return false;
	if (bpf_map_update_elem(&interfaces, key, entry, BPF_ANY))
		return false;
	take_place(&interface_shares, key->netns, SHARE_OF_INTERFACES);
	return true;
}

/*
 * Records what a device is; false if there is no place for it. The function is not inlined, so that
 * the verifier checks it once. Before 5.12 an argument must not be a pointer.
 */
__noinline int know_device(__u64 address, __u64 netns)
{
	struct net_device *dev = (void *)address;
	struct interface_entry entry = { .epoch = current_epoch() };
	struct interface_key key = { .netns = netns };
	const char *kind = BPF_CORE_READ(dev, rtnl_link_ops, kind);

	key.ifindex = BPF_CORE_READ(dev, ifindex);
	bpf_core_read(entry.name, sizeof(entry.name), &dev->name);
	if (kind)
		bpf_probe_read_kernel_str(entry.kind, sizeof(entry.kind), kind);
	entry.netns_inode = BPF_CORE_READ(dev, nd_net.net, ns.inum);
	entry.bare = !!(BPF_CORE_READ_BITFIELD_PROBED(dev, priv_flags) & (IFF_802_1Q_VLAN | IFF_EBRIDGE));
	if (!(BPF_CORE_READ(dev, flags) & IFF_LOOPBACK))
		entry.link = BPF_CORE_READ(dev, hard_header_len);
	entry.hardware = BPF_CORE_READ(dev, dev.parent) != NULL;
	return note_device(&key, &entry);
}

static __always_inline bool know_interface(struct net_device *dev, __u64 netns)
{
	return know_device(address_of(dev), netns);
}
