/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * drop_records - single dropped packets, with sender, receiver and the kernel's call stack.
 *
 * Hooks:   tp_btf kfree_skb     an skb is freed because it was dropped. The tracepoint has
 *                               grown twice, so there are three programs; user space loads
 *                               the one that fits.
 * Output:  ring drop_records, one record for each place, reason and flow in an interval.
 *          User space is not woken, and drains it at its interval.
 * Counts:  skbs. bpf/drops.bpf.c counts all of them; this program reports only some.
 * Loss:    STAT_SAMPLED_OUT for what is left out: further drops of a flow that has had its
 *          record, and all drops after a second has had its records, which cost only a
 *          look at the clock. STAT_LOST_RING_FULL if user space is too slow.
 * Needs:   BTF, Linux 5.10.
 */
#include "lib/program/stats.h"
#include "lib/context/socket.h"
#include "lib/device/device.h"
#include "lib/packet/headers.h"
#include "lib/drops/overflow.h"
#include "lib/program/limit.h"
#include "lib/program/selftest.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The numbers of reasons in the running kernel; see bpf/drops.bpf.c. */
const volatile __u32 reason_consumed;
const volatile __u32 reason_not_available;

const volatile __u64 interval_ns;

#define MAX_FRAMES 24

/* The flow of a packet, as its headers have it. A field is 0 if it cannot be read. */
struct drop_flow {
	__u64 location;
	__u8 source[16], destination[16];
	__u32 reason;
	__be16 source_port, destination_port;
	__u16 type; /* ETH_P_* */
	__u8 transport;
	__u8 pad[5];
};

struct drop_record {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 stack[MAX_FRAMES];
	struct drop_flow flow;
	struct context context; /* of the application that uses the socket */
	char interface[16];
	__u32 netns_inode;
	__u32 length;
	__s32 stack_bytes; /* negative: there is no stack */
	__u8 tcp_flags;
	__u8 empty; /* a TCP segment in which nothing is lost */
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
	__type(value, struct drop_record);
} drop_records SEC(".maps");

/* When a flow last had a record. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct drop_flow);
	__type(value, __u64);
} recorded SEC(".maps");

/*
 * Where the transport header begins; 0 if there is none, as in a later fragment. Before the network
 * layer has seen a packet, transport_header is the offset of the network header.
 */
static __always_inline __u32 transport_of_packet(const struct drop_flow *flow, struct sk_buff *skb)
{
	__u32 network = skb->network_header, transport = skb->transport_header;
	struct ip_header ip;

	if (flow->transport != IPPROTO_TCP && flow->transport != IPPROTO_UDP)
		return 0;
	if (flow->type == ETH_P_IP) {
		if (!read_header(&ip, sizeof(ip), skb, network) || (ip.skipped[5] & 0x1f) || ip.skipped[6])
			return 0;
		return network + (ip.version_length & 0xf) * 4;
	}
	return transport >= network + sizeof(struct ipv6_header) && transport != 0xffff ? transport : 0;
}

static __always_inline void read_ports(struct drop_flow *flow, struct sk_buff *skb, __u32 transport)
{
	__be16 ports[2] = {};

	if (!transport || !read_header(ports, sizeof(ports), skb, transport))
		return;
	flow->source_port = ports[0];
	flow->destination_port = ports[1];
}

static __always_inline void note_record(struct drop_record *record, void *ctx, struct sk_buff *skb, struct sock *sk, __u32 transport)
{
	struct tcp_header tcp = {};
	struct net_device *dev;
	struct net *net;

	record->length = skb->len;
	if (transport && record->flow.transport == IPPROTO_TCP && read_header(&tcp, sizeof(tcp), skb, transport)) {
		record->tcp_flags = tcp.flags;
		record->empty = is_empty(&tcp, skb->len);
	}
	dev = device_of(skb, sk, &net);
	if (dev) {
		bpf_core_read(record->interface, sizeof(record->interface), &dev->name);
		record->netns_inode = BPF_CORE_READ(net, ns.inum);
	}
	if (with_socket && sk)
		socket_context(&record->context, sk);
	record->stack_bytes = bpf_get_stack(ctx, record->stack, sizeof(record->stack), 0);
}

/*
 * Whether a flow is to have a record now. If several CPUs ask at the same time only one is told so:
 * only one finds no entry, and only one removes an old entry.
 */
static __always_inline bool takes_turn(const struct drop_flow *flow, __u64 now)
{
	__u64 *last = bpf_map_lookup_elem(&recorded, flow);

	if (last && now - *last < interval_ns)
		return false;
	if (!is_within_limit())
		return false;
	if (last && bpf_map_delete_elem(&recorded, flow))
		return false;
	return !bpf_map_update_elem(&recorded, flow, &now, BPF_NOEXIST);
}

static __always_inline int report_drop(void *ctx, struct sk_buff *skb, void *location, __u32 reason, struct sock *rx_sk)
{
	struct drop_flow flow = {
		.location = (__u64)location, .reason = reason, .type = bpf_ntohs(skb->protocol),
	};
	struct sock *sk = rx_sk ? rx_sk : BPF_CORE_READ(skb, sk);
	struct drop_record *record;
	__u32 transport;
	__u64 now;

	if (reason == reason_consumed)
		return 0;
	count_stat(STAT_SEEN);
	if (is_spent()) {
		count_stat(STAT_SAMPLED_OUT);
		return 0;
	}
	flow.transport = read_transport(skb, flow.type);
	read_addresses(flow.source, flow.destination, skb);
	transport = transport_of_packet(&flow, skb);
	read_ports(&flow, skb, transport);
	now = bpf_ktime_get_boot_ns();
	if (!takes_turn(&flow, now)) {
		count_stat(STAT_SAMPLED_OUT);
		return 0;
	}
	record = bpf_ringbuf_reserve(&drop_records, sizeof(*record), 0);
	if (!record) {
		bpf_map_delete_elem(&recorded, &flow);
		count_stat(STAT_LOST_RING_FULL);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->time_ns = now;
	record->flow = flow;
	note_record(record, ctx, skb, sk, transport);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}

/* up to 5.16 */
bool fired_report_drop_bare;

SEC("tp_btf/kfree_skb")
int BPF_PROG(report_drop_bare, struct sk_buff *skb, void *location)
{
	if (!is_enabled(&fired_report_drop_bare))
		return 0;
	return report_drop(ctx, skb, location, reason_not_available, NULL);
}

/* 5.17 to 6.10 */
bool fired_report_drop_reason;

SEC("tp_btf/kfree_skb")
int BPF_PROG(report_drop_reason, struct sk_buff *skb, void *location, __u32 reason)
{
	if (!is_enabled(&fired_report_drop_reason))
		return 0;
	return report_drop(ctx, skb, location, reason, NULL);
}

/* from 6.11 */
bool fired_report_drop_socket;

SEC("tp_btf/kfree_skb")
int BPF_PROG(report_drop_socket, struct sk_buff *skb, void *location, __u32 reason, struct sock *rx_sk)
{
	if (!is_enabled(&fired_report_drop_socket))
		return 0;
	return report_drop(ctx, skb, location, reason, rx_sk);
}
