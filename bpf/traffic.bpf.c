/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * traffic - packets and bytes that each process sent and received, per interface.
 *
 * Hooks:   tp_btf net_dev_start_xmit  a packet is passed to the device
 *          tp_btf net_dev_xmit        the device has taken or refused it; what it refused
 *                                     is subtracted again
 *          tp_btf netif_receive_skb   a packet has arrived, and its length is known
 *          cgroup_skb/ingress         it has reached the socket that it is for
 *          tp_btf kfree_skb           it was for no socket
 *          tp_btf net_dev_queue       it is forwarded: attached when packets are forwarded
 * Output:  maps traffic (for processes) and accounts (for the rest), by interface and
 *          direction; map interfaces tells what their numbers mean.
 * Counts:  what the interface counters count, so that the sums can be compared with them:
 *          whole packets, including retransmissions and ACKs, as skbs and as the frames
 *          that GSO makes of them.
 * Rule:    A claim never exceeds its arrival, so the accounts never exceed the interface.
 *          A delivery beyond that is a copy (multicast, raw sockets). A packet is counted
 *          for a process on the device nearest to its socket. On the devices below that
 *          carry it, it is on an account of theirs.
 * Loss:    ACCOUNT_OVERFLOW and STAT_LOST_MAP_FULL if a map is full; ACCOUNT_OVERFLOW and
 *          STAT_LOST_NAMESPACE_FULL if a network namespace has used up its share of one.
 * Needs:   BTF, Linux 5.12.
 */
#include "lib/traffic/arrival.h"
#include "lib/traffic/handed.h"
#include "lib/device/interface.h"
#include "lib/owner/pending.h"
#include "lib/packet/segments.h"
#include "lib/program/place.h"
#include "lib/program/selftest.h"

const volatile __u32 reason_no_socket = ~0U;

/*
 * forwards is set when something is forwarded. User space then attaches the program that claims a
 * packet before it waits in a queue, and sets with_forwarding. Until then a packet is claimed when
 * a device gets it, if that is still possible.
 */
bool forwards, with_forwarding;

/*
 * Adds what the user wants told apart. The protocol is that of the socket, whatever headers and
 * fragments the packet consists of.
 */
static __always_inline void describe(struct traffic_key *key, __u16 type, __u8 transport)
{
	if (with_type)
		key->type = type;
	if (with_transport)
		key->transport = transport;
}

/*
 * Counts for the owner of sk, or keeps the count until a process has used sk. The result is true if
 * the interface may be new.
 */
static __always_inline bool count_socket(void *sk, struct owner *owner, struct traffic_key *key,
					 const struct count *c)
{
	__u64 number = owner ? READ_ONCE(owner->number) : NOBODY;

	if (!is_used(number))
		return count_unused(sk, owner, key, c);
	key->number = number;
	return count_process(key, c);
}

/* Records a device that has something on an account for the first time. */
static __always_inline void meet(struct net_device *dev, __u64 netns)
{
	struct kind kind = kind_of(dev);

	know_interface(dev, netns);
	if (IS_KIND(kind, "wireguard"))
		with_wireguard = with_special = true;
	if (IS_KIND(kind, "tun"))
		with_tun = with_special = true;
	if (IS_KIND(kind, "xfrm"))
		with_xfrm = with_special = true;
}

/* -- transmit -- */

/* Counts h on its account. */
static __always_inline bool count_handed(struct handed *h)
{
	if (h->account == ACCOUNT_PROCESS)
		return count_process(&h->key, &h->count);
	return count_account(h->key.netns, h->key.ifindex, h->account, TRANSMIT, &h->count);
}

/* Counts a SYN-ACK. Its socket is only a request yet, which belongs to the process that listens. */
static __always_inline bool count_request(struct sock *sk, struct handed *h, bool below)
{
	__u64 listener = listener_of(sk);

	if (below)
		h->account = bpf_map_lookup_elem(&listeners, &listener) ? ACCOUNT_CARRIED : ACCOUNT_REQUEST;
	else
		h->account = account_of_listener(listener, &h->key, &h->count);
	return h->account == ACCOUNT_WAITING || count_handed(h);
}

static __always_inline bool count_sender(struct sock *sk, struct handed *h, bool below)
{
	struct known *known = below ? NULL : find_known(sk);
	struct owner *owner;
	__u64 since;

	if (known) {
		h->account = ACCOUNT_PROCESS;
		h->key.number = known->number;
		return count_process(&h->key, &h->count);
	}
	since = READ_ONCE(handovers);
	owner = owner_of(sk);
	if (!owner && is_kernel_socket(sk)) {
		h->account = ACCOUNT_KERNEL;
		return count_handed(h);
	}
	if (below) {
		h->account = ACCOUNT_CARRIED;
		return count_handed(h);
	}
	if (owner)
		note_known(sk, owner, READ_ONCE(owner->number), since);
	h->account = owner && is_used(owner->number) ? ACCOUNT_PROCESS : ACCOUNT_WAITING;
	return count_socket(sk, owner, &h->key, &h->count);
}

/* The transport protocol of what sk sends. A raw socket sends packets of any protocol. */
static __always_inline __u8 sent_by(struct sock *sk, struct sk_buff *skb, __u16 type)
{
	if (sk && sk->__sk_common.skc_state == STATE_NEW_SYN_RECV)
		return IPPROTO_TCP;
	if (sk && sk->__sk_common.skc_state != STATE_TIME_WAIT && sk->__sk_common.skc_family != AF_PACKET &&
	    sk->sk_type != SOCK_RAW)
		return sk->sk_protocol;
	return transport_of(skb->head + skb->network_header, type);
}

/* Records what the device is given, as the device will count it. */
static __always_inline void hand(struct handed *h, struct sk_buff *skb, struct net_device *dev)
{
	__u32 from = skb->data - skb->head, len = skb->len;
	__u16 pieces = gso_size_of(skb);

	if (is_loopback(dev->ifindex)) {
		len -= skb->network_header - from;
		from = skb->network_header;
	}
	h->skb = (__u64)skb;
	h->key = (struct traffic_key){
		.netns = dev->nd_net.net->net_cookie,
		.ifindex = dev->ifindex,
		.direction = TRANSMIT,
	};
	h->is_whole = true;
	h->count = count_of_frame(len);
	if (pieces)
		measure_pieces(&h->count, skb, from, len, pieces);
}

/*
 * Counts a packet that a device above has, and that is passed on to dev. The packet of a process is
 * in its series on the device above, and on ACCOUNT_CARRIED here; any other is on the same account
 * here.
 */
static __noinline bool count_handed_on(struct sk_buff *skb, struct net_device *dev, struct handing *now)
{
	struct handed *h = handed_to(now, dev);

	hand(h, skb, dev);
	h->account = is_of_process(&now->first) ? ACCOUNT_CARRIED : now->first.account;
	return count_handed(h);
}

/*
 * Counts a packet that a device is given by the network layer, or that arrived on another device.
 */
static __always_inline bool count_given(struct sk_buff *skb, struct net_device *dev, struct handed *h)
{
	__u16 type = bpf_ntohs(skb->protocol);
	struct sock *sk = skb->sk;

	hand(h, skb, dev);
	if (with_detail)
		describe(&h->key, type, sent_by(sk, skb, type));
	if (skb->skb_iif) { /* forwarded; on a bridge the skb may still have its sender's socket */
		forwards = true;
		if (!with_forwarding)
			claim_whole(skb, ACCOUNT_FORWARDED);
		h->key.number = tun_writer(h->key.netns, h->key.ifindex);
		h->account = h->key.number ? ACCOUNT_PROCESS : ACCOUNT_FORWARDED;
		return count_handed(h);
	}
	if (!sk) {
		h->account = ACCOUNT_NO_SOCKET;
		return count_handed(h);
	}
	if (sk->__sk_common.skc_state == STATE_TIME_WAIT) {
		h->account = ACCOUNT_TIME_WAIT;
		return count_handed(h);
	}
	if (sk->__sk_common.skc_state == STATE_NEW_SYN_RECV)
		return count_request(sk, h, has_been_above(skb, sk, dev));
	return count_sender(sk, h, has_been_above(skb, sk, dev));
}

/* Counts any packet. */
static __noinline int count_handing(struct handing *now, struct sk_buff *skb, struct net_device *dev)
{
	bool on = is_handed_on(now, dev), new;

	if (on && is_of_first(now, skb)) {
		new = count_handed_on(skb, dev, now);
	} else if (on) {
		new = count_given(skb, dev, handed_to(now, dev));
	} else {
		now->device = (__u64)dev;
		now->sk = (__u64)skb->sk;
		now->first.below = 0;
		new = count_given(skb, dev, &now->first);
	}
	if (new)
		meet(dev, dev->nd_net.net->net_cookie);
	return 0;
}

/* The bytes of a frame that a device is given, as it counts them. */
static __always_inline __u32 length_of(struct sk_buff *skb, __u32 ifindex)
{
	return is_loopback(ifindex) ? skb->len + (__u32)(skb->data - skb->head) - skb->network_header : skb->len;
}

/*
 * Counts the most frequent kind of packet, if it is one: a frame that a socket whose owner this CPU
 * knows sends on a device that it uses itself.
 */
static __always_inline bool count_known_sender(struct handing *now, struct sk_buff *skb, struct net_device *dev)
{
	__u64 number, netns, rest;
	struct known *known;
	struct cell *cell;
	struct sock *sk;
	__u32 bytes;

	if (with_detail)
		return APART(false);
	if (skb->skb_iif | with_special || gso_size_of(skb))
		return false;
	sk = skb->sk;
	if (!sk)
		return false;
	known = find_known(sk);
	if (!known || sk->__sk_common.skc_net.net != dev->nd_net.net || BITS_OF(skb, encapsulation) || has_upper(dev))
		return false;
	number = known->number;
	netns = dev->nd_net.net->net_cookie;
	rest = rest_of(dev->ifindex, 0, 0, TRANSMIT);
	cell = cell_at(number, rest, 0);
	if (!is_cell_of(cell, number, netns, rest))
		return false;
	bytes = length_of(skb, dev->ifindex);
	add_frame(cell, bytes);
	note_frame(&now->first, skb, number, bytes);
	now->device = (__u64)dev;
	now->sk = (__u64)sk;
	return true;
}

/* A device is given a packet. */
static __always_inline void see_transmit(struct sk_buff *skb, struct net_device *dev)
{
	struct handing *now = HERE(handing);

	now->seen++;
	if (now->device || !count_known_sender(now, skb, dev))
		count_handing(now, skb, dev);
}

bool fired_count_transmit;

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(count_transmit, struct sk_buff *skb, struct net_device *dev)
{
	if (is_enabled(&fired_count_transmit))
		see_transmit(skb, dev);
	return 0;
}

/* The same as the first one of a place, as is the next one of this kind. */
struct place at_transmit SEC(".maps");
bool fired_count_transmit_first;

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(count_transmit_first, struct sk_buff *skb, struct net_device *dev)
{
	if (is_enabled(&fired_count_transmit_first))
		see_transmit(skb, dev);
	LEAVE_TO_SECOND(ctx, at_transmit);
}

/* Sets what note_frame() left out. */
static __always_inline void complete(struct handed *h, struct net_device *dev)
{
	h->key.netns = dev->nd_net.net->net_cookie;
	*rest_of_key(&h->key) = rest_of(dev->ifindex, 0, 0, TRANSMIT);
	h->count = count_of_frame(h->bytes);
}

/*
 * Subtracts a packet that the device refused. What waits with its socket is left there, because the
 * skb and the socket may be gone by now.
 */
static __noinline int undo(struct handing *now, struct handed *h, struct sk_buff *skb, struct net_device *dev)
{
	if (h->skb != (__u64)skb || h->account == ACCOUNT_WAITING)
		return 0;
	h->skb = 0;
	now->seen--;
	if (!h->is_whole)
		complete(h, dev);
	negate(&h->count);
	count_handed(h);
	return 0;
}

bool fired_end_transmit;

SEC("tp_btf/net_dev_xmit")
int BPF_PROG(end_transmit, struct sk_buff *skb, int rc, struct net_device *dev, unsigned int len)
{
	struct handing *now = HERE(handing);
	bool first;

	if (!is_enabled(&fired_end_transmit))
		return 0;
	first = now->device == (__u64)dev;
	if (first)
		now->device = 0;
	if (rc)
		undo(now, first ? &now->first : handed_to(now, dev), skb, dev);
	return 0;
}

/* -- receive -- */

/*
 * Records which process has written what arrives at position. Before Linux 6.4 threads of the
 * kernel write for vhost, and it is not known for which process.
 */
static __noinline void note_writer(struct net_device *dev, __u64 netns, __u32 ifindex, __u32 position)
{
	struct tun_key key = { .netns = netns, .ifindex = ifindex };
	struct process process;
	__u64 number, *known;

	if (THIS_TASK(flags) & PF_KTHREAD || !IS_KIND(kind_of(dev), "tun") || !is_system_call(position))
		return;
	process = current_process();
	number = number_of(&process, current_task());
	known = bpf_map_lookup_elem(&tun_writers, &key);
	if (!known || *known != number)
		bpf_map_update_elem(&tun_writers, &key, &number, BPF_ANY);
}

/* Counts what has arrived, as the device does. The result is what may be claimed of it. */
static __always_inline struct part count_arrived(struct sk_buff *skb, struct net_device *dev, __u64 netns, __u32 ifindex,
						 __u32 from, __u32 link, __u32 position)
{
	__u64 number = number_of_account(ACCOUNT_ARRIVED), rest = rest_of(ifindex, 0, 0, RECEIVE);
	__u32 len = skb->len + link;
	__u16 pieces = gso_size_of(skb);
	struct count c;
	bool new;

	if (pieces) {
		c = count_of_frame(len);
		measure_pieces(&c, skb, from - link, len, pieces);
		new = count(number, netns, rest, &c);
	} else {
		new = count_frame(number, netns, rest, len);
	}
	if (new) {
		meet(dev, netns);
		if (with_tun) /* meet() may have set it */
			note_writer(dev, netns, ifindex, position);
	}
	if (!pieces)
		return (struct part){ .packets = 1, .bytes = len, .frames = 1, .frame_bytes = len };
	return (struct part){ .packets = c.packets, .bytes = c.bytes, .frames = c.frames, .frame_bytes = c.frame_bytes };
}

static __always_inline bool is_own_copy(struct sk_buff *skb)
{
	return BITS_OF(skb, pkt_type) == PACKET_LOOPBACK;
}

/*
 * Counts any packet, such as what has arrived before, on this device or on one below it, and the
 * sender's own copy of a broadcast, of which nothing may be claimed.
 */
static __noinline int count_any_arrival(struct arrivals *a, struct sk_buff *skb, __u32 position)
{
	struct net_device *dev = skb->dev;
	__u32 from = skb->data - skb->head, link = 0, ifindex = dev->ifindex;
	__u64 netns = dev->nd_net.net->net_cookie;
	struct part part = {};
	struct count c;

	if (is_own_copy(skb)) {
		arrive(a, skb, dev, netns, ifindex, from, link, &part);
		return 0;
	}
	if (skb->skb_iif == ifindex) {
		arrive_again(a, skb, from);
		return 0;
	}
	if (!is_loopback(ifindex) && (dev->hard_header_len || !(with_special | skb->skb_iif)))
		link = from - skb->mac_header;
	a->seen++;
	part = count_arrived(skb, dev, netns, ifindex, from, link, position);
	if (with_tun)
		note_writer(dev, netns, ifindex, position);
	if (with_wireguard && is_for_wireguard(skb->data, skb->protocol, netns)) {
		c = whole(&part);
		count_account(netns, ifindex, ACCOUNT_KERNEL, RECEIVE, &c);
		part = (struct part){}; /* nothing is left to claim */
	}
	arrive(a, skb, dev, netns, ifindex, from, link, &part);
	return 0;
}

/*
 * Counts the most frequent kind of packet, if it is one: a frame that is on no other device, on a
 * device that is known, in a buffer of which nothing is left to claim. Such a buffer has its slot
 * already.
 */
static __always_inline bool count_known_arrival(struct arrivals *a, struct sk_buff *skb)
{
	__u64 number = number_of_account(ACCOUNT_ARRIVED), head, netns, rest;
	__u32 at, from, link = 0, ifindex;
	struct net_device *dev;
	struct arrival *slot;
	struct cell *cell;
	struct part part;

	if (skb->skb_iif | with_special || gso_size_of(skb) || is_own_copy(skb))
		return false;
	head = (__u64)skb->head;
	at = hash_of(head) & (ARRIVAL_SLOTS - 1);
	slot = &a->slots[at];
	if (slot->head != head || !is_claimed(slot))
		return false;
	dev = skb->dev;
	netns = dev->nd_net.net->net_cookie;
	ifindex = dev->ifindex;
	set_leg(&slot->by[0], dev, netns, ifindex);
	rest = rest_of(ifindex, 0, 0, RECEIVE);
	cell = cell_at(number, rest, 0);
	if (!is_cell_of(cell, number, netns, rest))
		return false; /* as long as nothing is left, the leg means nothing */
	from = skb->data - skb->head;
	if (!is_loopback(ifindex))
		link = from - skb->mac_header;
	part = (struct part){ .packets = 1, .bytes = skb->len + link, .frames = 1, .frame_bytes = skb->len + link };
	leave(&slot->by[0], link, &part);
	a->seen++;
	add_frame(cell, part.bytes);
	slot->from = from;
	slot->end = from + skb->len;
	slot->legs = 1;
	slot->number = a->number++;
	a->last = at;
	return true;
}

/* A packet has arrived. */
static __always_inline void see_arrival(struct sk_buff *skb, __u32 position)
{
	struct arrivals *a = HERE(arrivals);

	if (!count_known_arrival(a, skb))
		count_any_arrival(a, skb, position);
}

bool fired_count_arrival;

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(count_arrival, struct sk_buff *skb)
{
	if (is_enabled(&fired_count_arrival))
		see_arrival(skb, position_of(ctx));
	return 0;
}

struct place at_arrival SEC(".maps");
bool fired_count_arrival_first;

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(count_arrival_first, struct sk_buff *skb)
{
	if (is_enabled(&fired_count_arrival_first))
		see_arrival(skb, position_of(ctx));
	LEAVE_TO_SECOND(ctx, at_arrival);
}

/*
 * The owner of a socket that has received, and in used the socket that the process has. These
 * differ for a subflow of MPTCP, which is a kernel socket and has the same owner as the socket
 * above it.
 */
static __always_inline struct owner *receiver_of(struct bpf_sock *sk, void **used)
{
	struct owner *owner = owner_of(sk), *master;
	struct mptcp_sock *mptcp;
	__u64 number;

	*used = sk;
	if ((owner && !owner->subflow) || sk->protocol != IPPROTO_TCP ||
	    !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_skc_to_mptcp_sock))
		return owner;
	mptcp = bpf_skc_to_mptcp_sock(sk);
	if (!mptcp)
		return owner;
	master = owner_of(mptcp);
	if (!master)
		return owner;
	*used = mptcp;
	if (!owner)
		owner = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return master;
	number = READ_ONCE(master->number);
	if (owner->number != number || !owner->subflow) {
		owner->subflow = 1;
		owner->number = number;
	}
	if (is_used(number))
		settle(sk, number); /* what the subflow sent before the process used the socket */
	return master;
}

/* The transport protocol of what sk receives. A raw socket receives packets of any protocol. */
static __always_inline __u8 received_by(struct bpf_sock *sk, struct __sk_buff *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx;

	if (sk->type != SOCK_RAW)
		return sk->protocol;
	return transport_of(BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header), bpf_ntohs(ctx->protocol));
}

static __always_inline bool is_kernel_bpf_sock(struct bpf_sock *sk)
{
	return BPF_CORE_READ_BITFIELD_PROBED((struct sock *)address_of(sk), sk_kern_sock);
}

/*
 * Counts the most frequent kind of delivery, if it is one: a whole packet, by the device on which it
 * arrived, to a socket whose owner this CPU knows. has_type is as for find_frame.
 */
static __always_inline bool count_known(struct __sk_buff *ctx, struct sk_buff *skb, const bool has_type, struct bpf_sock *sk)
{
	struct known *known = find_known(sk);
	__u64 number, rest;
	struct cell *cell;
	struct leg *leg;

	if (!known)
		return false;
	leg = find_frame(ctx, skb, has_type);
	if (!leg)
		return false;
	number = known->number;
	rest = rest_of(leg->ifindex, 0, 0, RECEIVE);
	cell = cell_at(number, rest, 0);
	if (!is_cell_of(cell, number, leg->netns, rest))
		return false;
	add_frame(cell, leg->left.bytes);
	leg->left = (struct part){};
	return true;
}

/* Counts any delivery. Apart from count_receive, which would set up the variables of this one for each packet. */
static __noinline int count_delivery(struct __sk_buff *ctx)
{
	struct traffic_key key = { .direction = RECEIVE };
	struct delivery d = { .below = ACCOUNT_CARRIED };
	struct bpf_sock *sk = ctx->sk;
	struct owner *owner;
	__u64 since;
	bool kernel;
	void *used;

	since = READ_ONCE(handovers);
	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	owner = receiver_of(sk, &used);
	kernel = !owner && is_kernel_bpf_sock(sk);
	if (kernel)
		d.below = ACCOUNT_KERNEL;
	if (!claim_delivery(ctx, &d)) {
		count_stat(STAT_COPY);
		return 1;
	}
	if (kernel) {
		count_account(d.netns, d.ifindex, ACCOUNT_KERNEL, RECEIVE, &d.count);
		return 1;
	}
	key.netns = d.netns;
	key.ifindex = d.ifindex;
	if (with_detail)
		describe(&key, bpf_ntohs(ctx->protocol), received_by(sk, ctx));
	if (owner && used == sk)
		note_known(sk, owner, READ_ONCE(owner->number), since);
	count_socket(used, owner, &key, &d.count);
	return 1;
}

bool fired_count_receive;

SEC("cgroup_skb/ingress")
int count_receive(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!is_enabled(&fired_count_receive))
		return 1;
	if (!sk)
		return 1;
	if (with_detail)
		return APART(count_delivery(ctx));
	if (bpf_cast_to_kern_ctx ? !count_known(ctx, bpf_cast_to_kern_ctx(ctx), true, sk) :
				   !count_known(ctx, (struct sk_buff *)ctx, false, sk))
		count_delivery(ctx);
	return 1;
}

/*
 * Claims a forwarded packet while it is still the skb that arrived, on the CPU where it did. Later
 * another CPU may take it from the queue, or cut it into segments.
 */
bool fired_claim_forwarded;

SEC("tp_btf/net_dev_queue")
int BPF_PROG(claim_forwarded, struct sk_buff *skb)
{
	if (is_enabled(&fired_claim_forwarded) && skb->skb_iif)
		claim_whole(skb, ACCOUNT_FORWARDED);
	return 0;
}

bool fired_count_no_socket;

SEC("tp_btf/kfree_skb")
int BPF_PROG(count_no_socket, struct sk_buff *skb, void *location, __u32 reason)
{
	if (!is_enabled(&fired_count_no_socket))
		return 0;
	if (reason == reason_no_socket)
		claim_whole(skb, ACCOUNT_NO_SOCKET);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
