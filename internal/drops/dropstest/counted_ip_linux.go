// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func countedIP() []CountedProvocation {
	return []CountedProvocation{
		counted("an IP header with a bad checksum", badIPChecksum, "IpInHdrErrors", "IpExtInCsumErrors"),
		counted("an IP header that promises more than comes", shortPacket, "IpExtInTruncatedPkts"),
		times("an IP header with an option that is longer than it", badIPOption, "IpInHdrErrors"),
		counted("a packet to pass on whose TTL has run out", expiredTTL, "IpInHdrErrors"),
		counted("a packet to pass on without a route", noRoute, "IpExtInNoRoutes"),
		times("a packet for others that is not to be passed on", notPassedOn, "IpInAddrErrors"),
		counted("a packet that cannot come from there", wrongWay, "TcpExtIPReversePathFilter"),
		counted("a packet of an unknown IP protocol", unknownProtocol, "IpInUnknownProtos"),
		times("a ping with a bad checksum", badPing, "IcmpInCsumErrors"),
		{"a segment of a connection whose route is gone", goneRoute},

		times("an IPv6 header that promises more than comes", shortPacketIPv6, "Ip6InTruncatedPkts"),
		times("a packet to pass on over IPv6 whose hop limit has run out", expiredHopLimit, "Ip6InHdrErrors"),
		times("a packet to pass on over IPv6 without a route", noRouteIPv6, "Ip6InNoRoutes"),
		times("a packet to pass on over IPv6 that is too large", tooLargeIPv6, "Ip6InTooBigErrors"),
		times("a packet over IPv6 for no address", forNoAddress, "Ip6InAddrErrors"),
		times("a packet of an unknown protocol over IPv6", unknownProtocolIPv6, "Ip6InUnknownProtos"),
		times("a ping over IPv6 with a bad checksum", badPingIPv6, "Icmp6InCsumErrors"),
	}
}

func badIPOption(t *testing.T, lab *Lab) int {
	const recordRoute = 7
	header := lab.ip(protocolUDP)
	header.options = []byte{recordRoute, 40, 4, 0}
	lab.send(t, 8, lab.frame(etherIPv4, header.packet(udp(1111, openPort, 0, "odd"))))
	return 8
}

func notPassedOn(t *testing.T, lab *Lab) int {
	lab.withSysctl(t, filepath.Join("net/ipv4/conf", lab.Receiver.Device, "forwarding"), "0", func() {
		header := lab.ip(protocolUDP)
		header.destination = netip.MustParseAddr("198.51.100.7")
		lab.send(t, 9, lab.frame(etherIPv4, header.packet(udp(1111, openPort, 0, "elsewhere"))))
	})
	return 9
}

const echoRequest, echoRequestIPv6 = 8, 128

func badPing(t *testing.T, lab *Lab) int {
	lab.sendTo(t, 6, lab.Receiver.IPv4, protocolICMP, []byte{echoRequest, 0, 0x12, 0x34, 0, 1, 0, 1})
	return 6
}

func badPingIPv6(t *testing.T, lab *Lab) int {
	lab.sendTo(t, 6, lab.Receiver.IPv6, protocolICMPv6, []byte{echoRequestIPv6, 0, 0x12, 0x34, 0, 1, 0, 1})
	return 6
}

// goneRoute lets the receiver send on a connection to where there no longer is a route. The number
// of segments that it tries to send is taken from the kernel's counter.
func goneRoute(t *testing.T, lab *Lab) map[string]int {
	far := netip.MustParsePrefix("203.0.113.0/24")
	route := &netlink.Route{LinkIndex: lab.Receiver.Index, Dst: &net.IPNet{IP: far.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}, Gw: neighbour(lab.Receiver.IPv4).AsSlice()}
	lab.knowNeighbour(t, neighbour(lab.Receiver.IPv4))
	lab.inReceiver(t, func() { must(netlink.RouteAdd(route)) })
	listener := lab.listen(t, lab.Receiver.IPv4)
	h := lab.beginHandshakeFrom(t, far.Addr().Next(), lab.Receiver.IPv4, nil)
	h.sendACKs(t, 1)
	server := kerneltest.AcceptOn(t, listener)
	var grown map[string]int
	lab.inReceiver(t, func() { must(netlink.RouteDel(route)) })
	grown = lab.growth(t, together(1), func() {
		_, err := unix.Write(server, []byte("lost"))
		must(err)
	}, "IpOutNoRoutes")
	// With a reset there is no route for, either, it would not stay at that number.
	must(unix.SetsockoptInt(server, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1))
	must(unix.Close(server))
	return grown
}

func (l *Lab) ipv6(protocol byte) ipHeader {
	return ipHeader{protocol: protocol, ttl: 64, source: l.Sender.IPv6, destination: l.Receiver.IPv6}
}

func shortPacketIPv6(t *testing.T, lab *Lab) int {
	header := lab.ipv6(protocolUDP)
	header.excess = 900
	lab.send(t, 9, lab.frame(etherIPv6, header.packet(udp(1111, openPort, 0, "short"))))
	return 9
}

func unknownProtocolIPv6(t *testing.T, lab *Lab) int {
	const forExperiments = 253
	lab.send(t, 13, lab.frame(etherIPv6, lab.ipv6(forExperiments).packet([]byte("unknown"))))
	return 13
}

func expiredHopLimit(t *testing.T, lab *Lab) int {
	header := lab.ipv6(protocolUDP)
	header.ttl, header.destination = 1, neighbour(lab.Receiver.IPv6)
	lab.sendOn(t, 10, header, "old")
	return 10
}

func noRouteIPv6(t *testing.T, lab *Lab) int {
	header := lab.ipv6(protocolUDP)
	header.destination = netip.MustParseAddr("2001:db8::7")
	lab.sendOn(t, 11, header, "lost")
	return 11
}

func forNoAddress(t *testing.T, lab *Lab) int {
	header := lab.ipv6(protocolUDP)
	header.destination = netip.IPv6Unspecified()
	lab.sendOn(t, 12, header, "nowhere")
	return 12
}

func tooLargeIPv6(t *testing.T, lab *Lab) int {
	narrow := netip.MustParsePrefix("2001:db8:1::/64")
	route := &netlink.Route{LinkIndex: lab.Receiver.Index, Dst: &net.IPNet{IP: narrow.Addr().AsSlice(), Mask: net.CIDRMask(64, 128)}, MTU: 1280, MTULock: true}
	lab.inReceiver(t, func() { must(netlink.RouteAdd(route)) })
	header := lab.ipv6(protocolUDP)
	header.destination = narrow.Addr().Next()
	lab.sendOn(t, 7, header, string(make([]byte, 1400)))
	lab.inReceiver(t, func() { must(netlink.RouteDel(route)) })
	return 7
}

// sendOn sends n datagrams while the receiver passes packets of IPv6 on.
func (l *Lab) sendOn(t *testing.T, n int, header ipHeader, payload string) {
	t.Helper()
	l.withSysctl(t, "net/ipv6/conf/all/forwarding", "1", func() {
		l.send(t, n, l.frame(etherIPv6, header.packet(udp(1111, openPort, 0x1234, payload))))
	})
}

// withSysctl sets a sysctl of the receiver from 1 to 0 or from 0 to 1 while something runs.
func (l *Lab) withSysctl(t *testing.T, name, value string, while func()) {
	t.Helper()
	usual := map[string]string{"0": "1", "1": "0"}[value]
	l.inReceiver(t, func() { setSysctl(t, name, value) })
	while()
	l.inReceiver(t, func() { setSysctl(t, name, usual) })
}
