// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// CountedQueues returns those that change the queue of the receiver's interface. What the interface is
// given meanwhile is lost, and no queue counts it, so they need a lab in which nothing else is sent: see
// [Lab.Silence].
func CountedQueues() []CountedProvocation {
	return []CountedProvocation{
		{"a datagram that finds the queue of its interface full", fullQueue},
		{"a datagram that finds a queue full that is inside of another one", fullInnerQueue},
		{"a datagram that has waited too long", lateIn(func() netlink.Qdisc { return &netlink.FqCodel{Target: 1, Interval: 1000, Limit: 1000} })},
		{"a datagram that has waited too long in a queue without flows", lateIn(func() netlink.Qdisc { return &netlink.GenericQdisc{QdiscType: "codel"} })},
		{"a datagram that has waited too long in a queue with a shaper", lateIn(func() netlink.Qdisc { return &netlink.GenericQdisc{QdiscType: "cake"} })},
		{"a datagram when a queue of flows is full", fullFlowQueue(netlink.Fq{PacketLimit: 3, FlowPacketLimit: 100})},
		{"a datagram of a flow that may not queue more", fullFlowQueue(netlink.Fq{PacketLimit: 100, FlowPacketLimit: 3})},
		{"a datagram that is to leave too late", beyondHorizon},
		{"a datagram that a filter refuses on its way in", refusedByFilter(netlink.HANDLE_MIN_INGRESS)},
		{"a datagram that a filter refuses on its way out", refusedByFilter(netlink.HANDLE_MIN_EGRESS)},
		{"a datagram that filters classify for ever", classifiedForEver},
		{"a datagram for a CPU whose input queue is full", fullInputQueue},
	}
}

// fullQueue lets the receiver send more than the queue of its interface can hold. Afterwards the
// queue takes all, so that any other packet that is sent is not lost, too.
func fullQueue(t *testing.T, lab *Lab) map[string]int {
	queue := &netlink.Tbf{Rate: 1000, Limit: 3000, Buffer: 64000}
	lab.addQueues(t, queue)
	lab.sendBack(t, 30, 900)
	lab.inReceiver(t, func() {
		queue.Rate, queue.Limit = 1e9, 1e6
		must(netlink.QdiscChange(queue))
	})
	return lab.queueDrops(t, netlink.HANDLE_ROOT)
}

// slow is a queue around another one that lets out so many bytes a second.
func slow(rate uint64) *netlink.Tbf {
	const largest = 2000 // bytes of a packet
	return &netlink.Tbf{Rate: rate, Limit: 1e6, Buffer: uint32(netlink.TickInUsec() * largest * 1e6 / float64(rate))}
}

// fullInnerQueue lets a queue drop whole batches of packets that it already has.
func fullInnerQueue(t *testing.T, lab *Lab) map[string]int {
	lab.addQueues(t, slow(100_000), &netlink.FqCodel{Limit: 3})
	lab.sendBack(t, 30, 900)
	return lab.emptyQueueDrops(t)
}

// lateIn lets datagrams wait in a queue that drops some of them when they should leave.
func lateIn(queue func() netlink.Qdisc) func(*testing.T, *Lab) map[string]int {
	return func(t *testing.T, lab *Lab) map[string]int {
		lab.addQueues(t, slow(100_000), queue())
		lab.sendBack(t, 60, 900)
		return lab.emptyQueueDrops(t)
	}
}

// fullFlowQueue lets a flow wait, each of whose packets may take a second. Afterwards the queue takes
// all, so that any other packet that is sent is not lost, too.
func fullFlowQueue(form netlink.Fq) func(*testing.T, *Lab) map[string]int {
	return func(t *testing.T, lab *Lab) map[string]int {
		queue := form
		queue.Pacing, queue.FlowMaxRate, queue.Quantum, queue.InitialQuantum = 1, 1000, 1, 1
		lab.addQueues(t, &queue)
		lab.sendBack(t, 20, 900)
		lab.inReceiver(t, func() {
			queue.PacketLimit, queue.FlowPacketLimit = 1e4, 1e4
			must(netlink.QdiscChange(&queue))
		})
		return lab.queueDrops(t, netlink.HANDLE_ROOT)
	}
}

// beyondHorizon sends datagrams that are to leave in a minute, for which the queue has no time.
func beyondHorizon(t *testing.T, lab *Lab) map[string]int {
	lab.addQueues(t, netlink.NewFq(netlink.QdiscAttrs{}))
	var now unix.Timespec
	must(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	const scmTXTIME = 61 // SO_TXTIME
	late := make([]byte, unix.CmsgSpace(8))
	binary.NativeEndian.PutUint64(late, uint64(unix.CmsgLen(8)))
	binary.NativeEndian.PutUint32(late[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(late[12:], scmTXTIME)
	binary.NativeEndian.PutUint64(late[unix.CmsgLen(0):], uint64(now.Nano()+time.Minute.Nanoseconds()))
	lab.inReceiver(t, func() {
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		must(err)
		defer unix.Close(socket)
		monotonic := make([]byte, 8) // struct sock_txtime
		binary.NativeEndian.PutUint32(monotonic, unix.CLOCK_MONOTONIC)
		must(unix.SetsockoptString(socket, unix.SOL_SOCKET, scmTXTIME, string(monotonic)))
		for range 6 {
			err := unix.Sendmsg(socket, []byte("late"), late, socketAddress(lab.Sender.IPv4, closedPort), 0)
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				t.Fatal(err)
			}
		}
	})
	return lab.queueDrops(t, netlink.HANDLE_ROOT)
}

// refusedByFilter has a filter that refuses datagrams for the closed port, and nothing that an earlier
// connection may still send.
func refusedByFilter(direction uint32) func(*testing.T, *Lab) map[string]int {
	return func(t *testing.T, lab *Lab) map[string]int {
		const unspecified, shot = -1, 2 // TC_ACT
		const ethertype, protocol, port = 12, 23, 36
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1), // from where LoadAbs takes the packet; it passes one that is too short
			asm.LoadAbs(ethertype, asm.Half), asm.JNE.Imm(asm.R0, etherIPv4, "pass"),
			asm.LoadAbs(protocol, asm.Byte), asm.JNE.Imm(asm.R0, protocolUDP, "pass"),
			asm.LoadAbs(port, asm.Half), asm.JNE.Imm(asm.R0, closedPort, "pass"),
			asm.Mov.Imm(asm.R0, shot), asm.Return(),
			asm.Mov.Imm(asm.R0, unspecified).WithSymbol("pass"), asm.Return(),
		}})
		must(err)
		defer program.Close()
		lab.addFilter(t, &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{Parent: direction, Protocol: unix.ETH_P_ALL}, Fd: program.FD(), Name: "refuse", DirectAction: true,
		})
		lab.sendBack(t, 4, 50)
		lab.sendDatagrams(t, 5, netip.AddrPortFrom(lab.Receiver.IPv4, closedPort), 50)
		if direction == netlink.HANDLE_MIN_EGRESS {
			return map[string]int{"qdisc drops": 4, "UdpNoPorts": 5}
		}
		return map[string]int{"qdisc drops": 5}
	}
}

func classifiedForEver(t *testing.T, lab *Lab) map[string]int {
	again := &netlink.GenericAction{ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_RECLASSIFY}}
	lab.addFilter(t, &netlink.MatchAll{
		FilterAttrs: netlink.FilterAttrs{Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_IP}, Actions: []netlink.Action{again},
	})
	lab.sendDatagrams(t, 5, netip.AddrPortFrom(lab.Receiver.IPv4, closedPort), 50)
	return lab.queueDrops(t, netlink.HANDLE_INGRESS)
}

// fullInputQueue sends a datagram that becomes many packets when it leaves the sender, all of which
// the CPU queues before it receives the first of them.
func fullInputQueue(t *testing.T, lab *Lab) map[string]int {
	kerneltest.NeedOwnMachine(t)
	const limit, udpSegment, packets = "net/core/netdev_max_backlog", 103, 60
	lab.openReader(t, lab.Receiver.IPv4)
	usual, err := os.ReadFile("/proc/sys/" + limit)
	must(err)
	before := softnetDropped(t)
	setSysctl(t, limit, "2")
	defer setSysctl(t, limit, string(usual))
	lab.inSender(t, func() {
		link, err := netlink.LinkByIndex(lab.Sender.Index)
		must(err)
		must(netlink.LinkSetGSOMaxSegs(link, 1)) // so that it is not the receiver who divides it
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		must(err)
		defer unix.Close(socket)
		must(unix.SetsockoptInt(socket, unix.IPPROTO_UDP, udpSegment, 100))
		must(unix.Sendto(socket, make([]byte, packets*100), 0, socketAddress(lab.Receiver.IPv4, openPort)))
	})
	dropped := softnetDropped(t) - before
	if dropped < packets/2 {
		t.Errorf("of %d packets %d found the queue full", packets, dropped)
	}
	return map[string]int{"softnet_stat dropped": dropped}
}

func softnetDropped(t *testing.T) (dropped int) {
	t.Helper()
	text, err := os.ReadFile("/proc/net/softnet_stat")
	must(err)
	for line := range strings.Lines(string(text)) {
		n, err := strconv.ParseInt(strings.Fields(line)[1], 16, 64)
		must(err)
		dropped += int(n)
	}
	return dropped
}

// addQueues gives the receiver's interface a queue and maybe another one inside of it, until the end
// of the test. It skips the test if the kernel does not have them.
func (l *Lab) addQueues(t *testing.T, queues ...netlink.Qdisc) {
	t.Helper()
	l.knowNeighbour(t, l.Sender.IPv4) // whom the receiver could not ask for, as the queue may take nothing
	l.inReceiver(t, func() {
		for i, queue := range queues {
			attributes := queue.Attrs()
			attributes.LinkIndex, attributes.Handle, attributes.Parent = l.Receiver.Index, netlink.MakeHandle(uint16(1+i), 0), netlink.HANDLE_ROOT
			if i > 0 {
				attributes.Parent = netlink.MakeHandle(uint16(i), 1)
			}
			if err := netlink.QdiscAdd(queue); errors.Is(err, unix.ENOENT) {
				t.Skipf("this kernel has no queue %s", queue.Type())
			} else if err != nil {
				t.Fatalf("add a queue: %v", err)
			}
			if i == 0 {
				t.Cleanup(func() { l.inReceiver(t, func() { must(netlink.QdiscDel(queue)) }) })
			}
		}
	})
}

// addFilter gives the receiver's interface a filter until the end of the test.
func (l *Lab) addFilter(t *testing.T, filter netlink.Filter) {
	t.Helper()
	l.knowNeighbour(t, l.Sender.IPv4)
	l.inReceiver(t, func() {
		queue := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Receiver.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		must(netlink.QdiscAdd(queue))
		t.Cleanup(func() { l.inReceiver(t, func() { must(netlink.QdiscDel(queue)) }) })
		filter.Attrs().LinkIndex, filter.Attrs().Priority = l.Receiver.Index, 1
		if err := netlink.FilterAdd(filter); errors.Is(err, unix.ENOENT) {
			t.Skipf("this kernel has no filter %s, or no such action", filter.Type())
		} else if err != nil {
			t.Fatalf("add a filter: %v", err)
		}
	})
}

// sendBack sends datagrams from the receiver to the sender, some of which may not be sent.
func (l *Lab) sendBack(t *testing.T, n, size int) {
	t.Helper()
	l.inReceiver(t, func() {
		socket, err := net.ListenPacket("udp4", "")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		for range n {
			// the error may be ENOBUFS
			_, _ = socket.WriteTo(make([]byte, size), net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.Sender.IPv4, closedPort)))
		}
	})
}

// queueDrops returns what a queue counts, in which any other packet that is sent is lost, too.
func (l *Lab) queueDrops(t *testing.T, parent uint32) map[string]int {
	t.Helper()
	dropped := int(l.queue(t, parent).Drops)
	if dropped == 0 {
		t.Error("the queue has dropped nothing")
	}
	return map[string]int{"qdisc drops": dropped}
}

// emptyQueueDrops waits until the outer queue is empty, and returns what it counts by then, which includes
// what the inner one has dropped.
func (l *Lab) emptyQueueDrops(t *testing.T) map[string]int {
	t.Helper()
	if !within(time.Minute, func() bool { return l.queue(t, netlink.HANDLE_ROOT).Qlen == 0 }) {
		t.Errorf("the queue does not become empty: %+v", l.queue(t, netlink.HANDLE_ROOT))
	}
	return l.queueDrops(t, netlink.HANDLE_ROOT)
}

// queue returns the counters of one of the queues of the receiver's interface.
func (l *Lab) queue(t *testing.T, parent uint32) (counters netlink.GnetStatsQueue) {
	t.Helper()
	l.inReceiver(t, func() {
		link, err := netlink.LinkByIndex(l.Receiver.Index)
		must(err)
		queues, err := netlink.QdiscList(link)
		must(err)
		for _, queue := range queues {
			if statistics := queue.Attrs().Statistics; queue.Attrs().Parent == parent && statistics != nil {
				counters = *statistics.Queue
			}
		}
	})
	return counters
}
