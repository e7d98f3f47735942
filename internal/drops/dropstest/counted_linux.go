// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CountedProvocation makes the receiver's kernel drop packets that some of its own counters count.
type CountedProvocation struct {
	Name string

	// Provoke returns which counters grow, and by how much.
	Provoke func(t *testing.T, lab *Lab) map[string]int
}

// Counted returns all that are known.
func Counted() []CountedProvocation {
	return []CountedProvocation{
		counted("a datagram for a closed port", closedUDPPort, "UdpNoPorts"),
		counted("a datagram for a closed port over IPv6", closedUDPPortIPv6, "Udp6NoPorts"),
		counted("a datagram for a reader that is too slow", fullReceiveBuffer, "UdpRcvbufErrors", "UdpInErrors"),
		counted("a datagram with a bad checksum", badUDPChecksum, "UdpInCsumErrors", "UdpInErrors"),
		counted("a segment with a bad checksum", badTCPChecksum, "TcpInCsumErrors", "TcpInErrs"),
		counted("an IP header with a bad checksum", badIPChecksum, "IpInHdrErrors", "IpExtInCsumErrors"),
		counted("an IP header that promises more than comes", shortPacket, "IpExtInTruncatedPkts"),
		counted("a packet to pass on whose TTL has run out", expiredTTL, "IpInHdrErrors"),
		counted("a packet to pass on without a route", noRoute, "IpExtInNoRoutes"),
		counted("a packet that cannot come from there", wrongWay, "TcpExtIPReversePathFilter"),
		counted("a packet of an unknown IP protocol", unknownProtocol, "IpInUnknownProtos"),
		{"a datagram that finds the queue of its interface full", fullQueue},
		counted("a connection to a listener whose accept queue is full", fullAcceptQueue, "TcpExtListenOverflows", "TcpExtListenDrops"),
		{"a datagram when UDP has no memory left", udpMemoryShort},
		{"a segment when TCP has no memory left", tcpMemoryShort},
	}
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

// Uncounted returns losses for which there is never a packet to see.
func Uncounted() []CountedProvocation {
	return []CountedProvocation{
		{"a datagram to where there is no route", sendWithoutRoute},
		{"a SYN for which there is no route back", noRouteBack},
		{"a SYN that finds the queue of half-open connections full", fullHalfOpenQueue},
	}
}

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
	full := func() (n int) {
		lab.inReceiver(t, func() { n = counter(t, "netstat", "TcpExt:", "TCPReqQFullDrop") })
		return n
	}
	before := full()
	header := lab.ip(protocolTCP)
	header.source = neighbour(header.destination)
	lab.knowNeighbour(t, header.source)
	lab.listen(t, lab.Receiver.IPv4)
	lab.sendSYNsFrom(t, header, sent)
	if !within(time.Minute, func() bool { return full()-before >= sent-1 }) {
		t.Errorf("TCPReqQFullDrop grew by %d, want %d or one less", full()-before, sent)
	}
	return map[string]int{"TcpExtListenDrops": full() - before, "TcpExtTCPReqQFullDrop": full() - before}
}

// sendSYNsFrom sends one SYN from each of a number of ports to the listener.
func (l *Lab) sendSYNsFrom(t *testing.T, header ipHeader, ports int) {
	t.Helper()
	for port := range ports {
		syn := segment{source: uint16(2000 + port), destination: listenerPort, sequence: clientSequence, flags: flagSYN}
		l.send(t, 1, l.frame(etherIPv4, header.packet(syn.bytes(header.source, header.destination))))
	}
}

// fullQueue lets the receiver send more than the queue of its interface can hold. The number of
// lost packets is what the queue counts: any other that is sent meanwhile is lost, too. Afterwards
// the queue takes all, so that it stays at that number.
func fullQueue(t *testing.T, lab *Lab) map[string]int {
	const sent = 30
	lab.knowNeighbour(t, lab.Sender.IPv4) // whom the receiver could not ask for, as the queue takes nothing
	lab.inReceiver(t, func() {
		queue := &netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lab.Receiver.Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       1000, Limit: 3000, Buffer: 64000,
		}
		if err := netlink.QdiscAdd(queue); err != nil {
			t.Fatalf("add a queue: %v", err)
		}
		t.Cleanup(func() {
			lab.inReceiver(t, func() {
				if err := netlink.QdiscDel(queue); err != nil {
					t.Errorf("delete a queue: %v", err)
				}
			})
		})
		socket, err := net.ListenPacket("udp4", "")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		for range sent {
			// the error may be ENOBUFS
			_, _ = socket.WriteTo(make([]byte, 900), net.UDPAddrFromAddrPort(netip.AddrPortFrom(lab.Sender.IPv4, closedPort)))
		}
		queue.Rate, queue.Limit = 1e9, 1e6
		if err := netlink.QdiscChange(queue); err != nil {
			t.Fatalf("let a queue take all: %v", err)
		}
	})
	return map[string]int{"qdisc drops": lab.queueDrops(t)}
}

func (l *Lab) queueDrops(t *testing.T) (dropped int) {
	t.Helper()
	l.inReceiver(t, func() {
		link, err := netlink.LinkByIndex(l.Receiver.Index)
		if err != nil {
			t.Fatal(err)
		}
		queues, err := netlink.QdiscList(link)
		if err != nil {
			t.Fatal(err)
		}
		for _, queue := range queues {
			if statistics := queue.Attrs().Statistics; queue.Attrs().Parent == netlink.HANDLE_ROOT && statistics != nil {
				dropped += int(statistics.Queue.Drops)
			}
		}
	})
	if dropped == 0 {
		t.Error("the queue has dropped nothing")
	}
	return dropped
}
