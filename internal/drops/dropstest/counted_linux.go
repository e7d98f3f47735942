// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// CountedProvocation makes the receiver's kernel drop packets that some of its own counters count.
type CountedProvocation struct {
	Name string

	// Provoke returns which counters grow, and by how much.
	Provoke func(t *testing.T, lab *Lab) map[string]int
}

// Counted returns all that are known but those of [CountedQueues].
func Counted() []CountedProvocation {
	return slices.Concat(countedUDP("", ipv4Of, "Udp"), countedUDP(" over IPv6", ipv6Of, "Udp6"), countedTCP(), countedIP())
}

// counted makes a CountedProvocation of a provocation whose drops some counters count.
func counted(name string, provoke func(*testing.T, *Lab) Drop, counters ...string) CountedProvocation {
	return CountedProvocation{name, func(t *testing.T, lab *Lab) map[string]int {
		want, packets := map[string]int{}, provoke(t, lab).Packets
		for _, counter := range counters {
			want[counter] = packets
		}
		return want
	}}
}

// times makes a CountedProvocation of what returns how many packets some counters count.
func times(name string, provoke func(*testing.T, *Lab) int, counters ...string) CountedProvocation {
	return counted(name, func(t *testing.T, lab *Lab) Drop { return Drop{Packets: provoke(t, lab)} }, counters...)
}

// Uncounted returns losses for which there is never a packet to see.
func Uncounted() []CountedProvocation {
	return []CountedProvocation{
		{"a datagram to where there is no route", sendWithoutRoute},
		{"a SYN for which there is no route back", noRouteBack},
		{"a SYN that finds the queue of half-open connections full", fullHalfOpenQueue},
	}
}

// overflows are the losses to the queues of a listener, which we cannot tell apart.
const overflows = "TcpExtListenOverflows + TcpExtTCPReqQFullDrop"

func sendWithoutRoute(t *testing.T, lab *Lab) map[string]int {
	const n = 7
	lab.inReceiver(t, func() {
		socket, err := net.ListenPacket("udp4", "")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.7:9"))
		for range n {
			if _, err := socket.WriteTo([]byte("x"), to); !errors.Is(err, unix.ENETUNREACH) {
				t.Fatalf("send without a route: %v", err)
			}
		}
	})
	return map[string]int{"IpOutNoRoutes": n}
}

func noRouteBack(t *testing.T, lab *Lab) map[string]int {
	const n = 9
	lab.inReceiver(t, func() {
		setSysctl(t, "net/ipv4/conf/all/rp_filter", "0")
		setSysctl(t, "net/ipv4/conf/"+lab.Receiver.Device+"/rp_filter", "0")
	})
	t.Cleanup(func() { lab.inReceiver(t, func() { setSysctl(t, "net/ipv4/conf/all/rp_filter", "1") }) })
	lab.listen(t, lab.Receiver.IPv4)
	header := lab.ip(protocolTCP)
	header.source = netip.MustParseAddr("198.51.100.7")
	lab.sendSYNsFrom(t, header, n)
	return map[string]int{"TcpExtListenDrops": n, "IpOutNoRoutes": n}
}

// fullHalfOpenQueue sends more SYNs than fit into the queue of a listener that may not send
// cookies. The number of lost ones is taken from the kernel's counter, since the limit differs by
// one between kernels.
func fullHalfOpenQueue(t *testing.T, lab *Lab) map[string]int {
	const sent = 20
	lab.inReceiver(t, func() { setSysctl(t, "net/ipv4/tcp_syncookies", "0") })
	t.Cleanup(func() { lab.inReceiver(t, func() { setSysctl(t, "net/ipv4/tcp_syncookies", "1") }) })
	full := func() int { return lab.counter(t, "TcpExtTCPReqQFullDrop") }
	before := full()
	header := lab.ip(protocolTCP)
	header.source = neighbour(header.destination)
	lab.knowNeighbour(t, header.source)
	lab.listen(t, lab.Receiver.IPv4)
	lab.sendSYNsFrom(t, header, sent)
	if !within(time.Minute, func() bool { return full()-before >= sent-1 }) {
		t.Errorf("TCPReqQFullDrop grew by %d, want %d or one less", full()-before, sent)
	}
	return map[string]int{"TcpExtListenDrops": full() - before, overflows: full() - before}
}

// sendSYNsFrom sends one SYN from each of a number of ports to the listener.
func (l *Lab) sendSYNsFrom(t *testing.T, header ipHeader, ports int) {
	t.Helper()
	for port := range ports {
		syn := segment{source: uint16(2000 + port), destination: listenerPort, sequence: clientSequence, flags: flagSYN}
		l.send(t, 1, l.frame(etherIPv4, header.packet(syn.bytes(header.source, header.destination))))
	}
}
