// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * drops - packets that the kernel discarded: where in its code, why, and on which interface.
 *
 * Hooks:   tp_btf kfree_skb     an skb is freed because it was dropped. The
 *                               tracepoint has grown twice, so there are several
 *                               programs; user space loads the one that fits.
 *          cgroup_skb/ingress   a packet meets a listener with a full accept
 *                               queue. kfree_skb does not report the SYNs that are
 *                               lost there, nor before 6.15 why the ACKs are.
 *          tp_btf tcp_send_reset, tcp_receive_reset
 *                               a connection is reset; attached only if that is wanted.
 * Output:  maps drops and drops_without_detail, which user space adds up. It removes
 *          entries of drops if the interface is gone or has another name, and if the
 *          map becomes full.
 *          If user space shares the maps of owner.bpf.c, a key also has the process
 *          that lost the packet.
 *          Map exemplars has, for some of the keys, the trace context of a socket that
 *          lost a packet; user space removes it.
 * Counts:  skbs, each of which can be many frames.
 * Loss:    STAT_LOST_MAP_FULL if a new key finds both maps full. A drop is only unplaced
 *          if it is counted without its process, because map drops is full, the network
 *          namespace has used up its share, or the process is beyond max_processes.
 * Needs:   BTF, Linux 5.10; for processes 5.12.
 */
#include "lib/program/stats.h"
#include "lib/program/quota.h"
#include "lib/context/socket.h"
#include "lib/device/device.h"
#include "lib/packet/headers.h"
#include "lib/device/interface.h"
#include "lib/drops/overflow.h"
#include "lib/program/selftest.h"
#include "lib/drops/victim.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * The numbers of drop reasons. User space takes them from the running kernel, because they change
 * between releases. A reason that this kernel lacks has a number that no drop has.
 */
const volatile __u32 reason_consumed;
const volatile __u32 reason_no_socket;
const volatile __u32 reason_overflow;        /* the reason of an ACK lost to a full accept queue */
const volatile __u32 reason_unspecified;     /* the same if the kernel has no such reason */
const volatile __u32 reason_listen_overflow; /* not of the kernel */
const volatile __u32 reason_not_available;   /* not of the kernel: it gives no reasons */

/*
 * IP protocols that have a name. All others count as unknown, since otherwise a scan over them
 * would fill the map.
 */
const volatile bool named_transports[256];

struct drop_key {
	__u64 location; /* in the code, after the call that freed the skb; 0: a full accept queue */
	__u64 netns;    /* the device's, as in struct interface_key */
	__u64 number;   /* of the process that lost it: struct process_entry; NOBODY: unknown */
	__u32 ifindex;  /* 0: unknown */
	__u32 reason;
	enum direction direction; /* where there is a process; else 0 */
	__u16 type;     /* ETH_P_IP, ETH_P_IPV6 or ETH_P_ARP; 0: another */
	__u8 transport; /* IP protocol; 0: unknown */
	__u8 empty;     /* for no socket: a TCP segment in which nothing is lost */
	enum victim victim;
	__u8 reset; /* it is a TCP reset and no drop: reason is why it was sent, or UNKNOWN_RESET */
	__u8 pad[6];
};

/* Packets whose process is known, but that were counted without it for lack of room. */
__u64 unplaced;

/*
 * Each CPU has a count of its own. In a flood all packets are dropped at one place, and all CPUs
 * would contend for the cache line of a single atomic counter.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct drop_key);
	__type(value, __u64);
} drops SEC(".maps");

/* The shares of network namespaces in map drops. */
struct share_map shares SEC(".maps");

/*
 * If map drops is full, drops are still counted by location and reason, of which there are few
 * combinations.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct drop_key);
	__type(value, __u64);
} drops_without_detail SEC(".maps");

/* What an application was doing on a socket when a packet of that was dropped. */
struct exemplar {
	struct context context;
	__u64 time_ns; /* CLOCK_BOOTTIME */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct drop_key);
	__type(value, struct exemplar);
} exemplars SEC(".maps");

static __always_inline void note_exemplar(const struct drop_key *key, struct sock *sk)
{
	struct exemplar exemplar = {};

	if (!with_socket || !sk || !socket_context(&exemplar.context, sk))
		return;
	exemplar.time_ns = bpf_ktime_get_boot_ns();
	bpf_map_update_elem(&exemplars, key, &exemplar, BPF_ANY);
}

static __always_inline bool increment(void *map, const struct drop_key *key, bool *new)
{
	__u64 *count = bpf_map_lookup_elem(map, key);
	const __u64 zero = 0;

	if (!count) {
		/* Another CPU may add it first, so the answer that counts is the second look. */
		*new = !bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(map, key);
	}
	if (!count)
		return false;
	++*count;
	return true;
}

/* The same in map drops, if the namespace may have one more key. */
static __always_inline bool increment_detailed(const struct drop_key *key, bool *new)
{
	__u64 *count = bpf_map_lookup_elem(&drops, key);

	if (count) {
		++*count;
		return true;
	}
	return has_place(&shares, key->netns, SHARE_OF_DROPS) && increment(&drops, key, new);
}

static __always_inline void count(const struct drop_key *key, struct net_device *dev)
{
	struct drop_key coarse = { .location = key->location, .reason = key->reason };
	bool new = false;

	count_stat(STAT_SEEN);
	if (increment_detailed(key, &new)) {
		if (new)
			take_place(&shares, key->netns, SHARE_OF_DROPS);
		if (new && key->ifindex)
			know_interface(dev, key->netns);
		return;
	}
	if (key->number)
		__sync_fetch_and_add(&unplaced, 1);
	if (!increment(&drops_without_detail, &coarse, &new))
		count_stat(STAT_LOST_MAP_FULL);
}

static __always_inline void set_interface(struct drop_key *key, struct net_device *dev, struct net *net)
{
	if (!dev)
		return;
	key->netns = netns_id(net);
	key->ifindex = BPF_CORE_READ(dev, ifindex);
}

static __always_inline __u16 known_type(__be16 protocol)
{
	__u16 type = bpf_ntohs(protocol);

	return type == ETH_P_IP || type == ETH_P_IPV6 || type == ETH_P_ARP ? type : 0;
}

/* Whether what kfree_skb reports is an ACK lost to a full accept queue. */
static __always_inline bool is_lost_to_queue(struct sk_buff *skb, __u32 reason)
{
	if (reason == reason_overflow)
		return true;
	if (reason == reason_unspecified)
		return is_late_ack(skb, true);
	/* It has met a listener, so only the ACK of a SYN cookie can still have this reason. */
	return reason == reason_no_socket && is_late_ack(skb, false);
}

static __always_inline bool is_empty_segment(struct sk_buff *skb, __u8 transport)
{
	struct tcp_header tcp;

	return transport == IPPROTO_TCP && read_tcp_header(&tcp, skb) && is_empty(&tcp, skb->len);
}

/* How a program finds the process that lost a packet. */
enum means {
	NO_MEANS,
	BY_HAND,
	BY_HELPER,
};

/*
 * The direction of a packet that was dropped. The socket of an skb is its sender's until the
 * network layer of the receiver has taken it.
 */
static __always_inline enum direction direction_of(struct sk_buff *skb, struct sock *sk, struct net *net)
{
	return skb->skb_iif && (!net || BPF_CORE_READ(sk, __sk_common.skc_net.net) == net) ? RECEIVE : TRANSMIT;
}

static __always_inline void set_victim(struct drop_key *key, __u64 number, enum direction direction, enum victim how)
{
	if (is_beyond(number))
		__sync_fetch_and_add(&unplaced, 1);
	if (number == NOBODY || is_beyond(number))
		return;
	key->number = number;
	key->direction = direction;
	key->victim = how;
}

/*
 * Finds the process without the help of the tracepoint, which before Linux 6.11 does not tell who
 * was to receive the packet.
 */
static __always_inline void find_by_hand(struct drop_key *key, struct sk_buff *skb, struct net *net)
{
	struct sock *sk = key->reason == reason_no_socket ? NULL : met_by(skb);

	if (sk) {
		set_victim(key, number_by_hand(sk), RECEIVE, VICTIM_SOCKET);
	} else {
		sk = BPF_CORE_READ(skb, sk);
		if (sk)
			set_victim(key, number_by_hand(sk), direction_of(skb, sk, net), VICTIM_SOCKET);
	}
}

static __always_inline void find_by_helper(struct drop_key *key, struct sk_buff *skb, struct sock *rx_sk, struct net *net)
{
	struct sock *sk;

	if (rx_sk) {
		set_victim(key, number_by_helper(rx_sk), RECEIVE, VICTIM_SOCKET);
	} else {
		sk = skb->sk;
		if (sk)
			set_victim(key, number_by_helper(sk), direction_of(skb, sk, net), VICTIM_SOCKET);
	}
}

static __always_inline int count_drop(struct sk_buff *skb, void *location, __u32 reason, struct sock *rx_sk, enum means means)
{
	struct drop_key key = {
		.location = (__u64)location,
		.reason = reason,
		.type = known_type(skb->protocol),
	};
	struct sock *sk = rx_sk ? rx_sk : BPF_CORE_READ(skb, sk);
	__u8 transport = read_transport(skb, key.type);
	struct net_device *dev;
	struct net *net;

	if (reason == reason_consumed)
		return 0;
	if (is_lost_to_queue(skb, reason)) {
		key.location = 0;
		key.reason = reason_listen_overflow;
	}
	if (named_transports[transport])
		key.transport = transport;
	if (key.reason == reason_no_socket)
		key.empty = is_empty_segment(skb, transport);
	dev = device_of(skb, sk, &net);
	set_interface(&key, dev, net);
	if (means == BY_HAND && with_victims)
		find_by_hand(&key, skb, net);
	else if (means == BY_HELPER && with_victims)
		find_by_helper(&key, skb, rx_sk, net);
	if (means != NO_MEANS && with_victims && key.reason == reason_no_socket && key.number == NOBODY)
		set_victim(&key, number_of_last_listener(skb, key.netns, transport), RECEIVE, VICTIM_LAST_LISTENER);
	count(&key, dev);
	note_exemplar(&key, sk);
	return 0;
}

#define UNKNOWN_RESET 0xffffffff

/*
 * Counts a reset. Since Linux 6.10 the tracepoint tells why it was sent. There may be no socket.
 * The owner of a socket that is being closed is still known.
 */
static __always_inline void count_reset(const struct sock *sk, enum direction direction, __u32 reason)
{
	struct drop_key key = { .reason = reason, .transport = IPPROTO_TCP, .reset = 1, .direction = direction };

	if (with_victims && sk)
		set_victim(&key, number_by_hand((struct sock *)sk), direction, VICTIM_SOCKET);
	count(&key, NULL);
}

/* up to 6.9 */
bool fired_count_reset_bare;

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(count_reset_bare, const struct sock *sk)
{
	if (is_enabled(&fired_count_reset_bare))
		count_reset(sk, TRANSMIT, UNKNOWN_RESET);
	return 0;
}

/* from 6.10 */
bool fired_count_reset_sent;

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(count_reset_sent, const struct sock *sk, const struct sk_buff *skb, __u32 reason)
{
	if (is_enabled(&fired_count_reset_sent))
		count_reset(sk, TRANSMIT, reason);
	return 0;
}

bool fired_count_reset_received;

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(count_reset_received, struct sock *sk)
{
	if (is_enabled(&fired_count_reset_received))
		count_reset(sk, RECEIVE, UNKNOWN_RESET);
	return 0;
}

/* up to 5.11 */
bool fired_count_drop_bare;

SEC("tp_btf/kfree_skb")
int BPF_PROG(count_drop_bare, struct sk_buff *skb, void *location)
{
	if (!is_enabled(&fired_count_drop_bare))
		return 0;
	return count_drop(skb, location, reason_not_available, NULL, NO_MEANS);
}

/* 5.12 to 5.16 */
bool fired_count_drop_place;

SEC("tp_btf/kfree_skb")
int BPF_PROG(count_drop_place, struct sk_buff *skb, void *location)
{
	if (!is_enabled(&fired_count_drop_place))
		return 0;
	return count_drop(skb, location, reason_not_available, NULL, BY_HAND);
}

/* 5.17 to 6.10 */
bool fired_count_drop_reason;

SEC("tp_btf/kfree_skb")
int BPF_PROG(count_drop_reason, struct sk_buff *skb, void *location, __u32 reason)
{
	if (!is_enabled(&fired_count_drop_reason))
		return 0;
	return count_drop(skb, location, reason, NULL, BY_HAND);
}

/* from 6.11: rx_sk is the socket that the skb was for, if the kernel had found it */
bool fired_count_drop_socket;

SEC("tp_btf/kfree_skb")
int BPF_PROG(count_drop_socket, struct sk_buff *skb, void *location, __u32 reason, struct sock *rx_sk)
{
	if (!is_enabled(&fired_count_drop_socket))
		return 0;
	return count_drop(skb, location, reason, rx_sk, BY_HELPER);
}

/*
 * A packet meets a listener. This is apart from watch_listeners, which would set up the variables of
 * this one for each packet.
 */
static __noinline int meet_listener(struct __sk_buff *ctx)
{
	struct drop_key key = { .reason = reason_listen_overflow, .transport = IPPROTO_TCP };
	struct bpf_sock *listener = ctx->sk;
	struct net_device *dev;
	struct tcp_header tcp;

	if (!listener || !accept_queue_is_full(listener) || !load_tcp_header(&tcp, ctx))
		return 0;
	if (is_ack(&tcp)) {
		remember_ack(ctx, &tcp, is_half_open(ctx, &tcp));
	} else if (is_syn(&tcp) && !is_half_open(ctx, &tcp)) {
		key.type = known_type(ctx->protocol);
		dev = BPF_CORE_READ((struct sk_buff *)ctx, dev);
		set_interface(&key, dev, BPF_CORE_READ(dev, nd_net.net));
		if (with_victims)
			set_victim(&key, number_of_listener(address_of(listener)), RECEIVE, VICTIM_SOCKET);
		count(&key, dev);
	}
	return 0;
}

bool fired_watch_listeners;

SEC("cgroup_skb/ingress")
int watch_listeners(struct __sk_buff *ctx)
{
	struct bpf_sock *listener = ctx->sk;

	if (!listener)
		return 1;
	if (with_meetings)
		note_meeting(ctx, listener);
	if (listener->state == STATE_LISTEN && is_enabled(&fired_watch_listeners))
		meet_listener(ctx);
	return 1; /* let it pass */
}
