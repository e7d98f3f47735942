// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// countedUDP returns what UDP counts over one version of IP, whose counters begin with a prefix.
func countedUDP(over string, address func(*Lab) netip.Addr, prefix string) []CountedProvocation {
	at := func(provoke func(*testing.T, *Lab, netip.Addr) int) func(*testing.T, *Lab) int {
		return func(t *testing.T, lab *Lab) int { return provoke(t, lab, address(lab)) }
	}
	return []CountedProvocation{
		times("a datagram for a closed port"+over, at(closedUDPPortAt), prefix+"NoPorts"),
		times("a datagram for a reader that is too slow"+over, func(t *testing.T, lab *Lab) int {
			return lab.overfill(t, address(lab), prefix+"RcvbufErrors")
		}, prefix+"RcvbufErrors", prefix+"InErrors"),
		times("a datagram with a bad checksum"+over, at(badUDPChecksumAt), prefix+"InCsumErrors", prefix+"InErrors"),
		times("a datagram that promises more than comes"+over, at(shortDatagram), prefix+"InErrors"),
		times("a datagram that is shorter than its header"+over, at(headlessDatagram), prefix+"InErrors"),
		times("a datagram that the reader's filter refuses"+over, at(filteredDatagram), prefix+"InErrors"),
		times("a datagram that a policy of IPsec refuses"+over, at(datagramAgainstPolicy), prefix+"InErrors"),
		{"a datagram when UDP has no memory left" + over, udpMemoryShort(address, prefix)},
	}
}

func closedUDPPortAt(t *testing.T, lab *Lab, address netip.Addr) int {
	lab.sendDatagrams(t, 5, netip.AddrPortFrom(address, closedPort), 50)
	return 5
}

func badUDPChecksumAt(t *testing.T, lab *Lab, address netip.Addr) int {
	lab.openReader(t, address)
	lab.sendTo(t, 6, address, protocolUDP, udp(1111, openPort, 0x1234, "damaged"))
	return 6
}

func shortDatagram(t *testing.T, lab *Lab, address netip.Addr) int {
	datagram := udp(1111, openPort, 0x1234, "short")
	lab.sendTo(t, 7, address, protocolUDP, datagram[:len(datagram)-1])
	return 7
}

func headlessDatagram(t *testing.T, lab *Lab, address netip.Addr) int {
	lab.sendTo(t, 8, address, protocolUDP, udp(1111, openPort, 0, "")[:4])
	return 8
}

func filteredDatagram(t *testing.T, lab *Lab, address netip.Addr) int {
	reader := lab.openReader(t, address)
	nothing := unix.SockFilter{Code: unix.BPF_RET}
	must(unix.SetsockoptSockFprog(reader, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}))
	lab.sendDatagrams(t, 9, netip.AddrPortFrom(address, openPort), 50)
	return 9
}

func datagramAgainstPolicy(t *testing.T, lab *Lab, address netip.Addr) int {
	lab.openReader(t, address)
	only := func(address netip.Addr) *net.IPNet {
		return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(address.BitLen(), address.BitLen())}
	}
	policy := &netlink.XfrmPolicy{
		Src: only(lab.peerOf(address)), Dst: only(address), Proto: unix.IPPROTO_UDP, Dir: netlink.XFRM_DIR_IN, Action: netlink.XFRM_POLICY_BLOCK,
	}
	lab.inReceiver(t, func() { must(netlink.XfrmPolicyAdd(policy)) })
	lab.sendDatagrams(t, 10, netip.AddrPortFrom(address, openPort), 50)
	lab.inReceiver(t, func() { must(netlink.XfrmPolicyDel(policy)) })
	return 10
}

// sendTo sends n packets with a payload to an address of the receiver.
func (l *Lab) sendTo(t *testing.T, n int, address netip.Addr, protocol byte, payload []byte) {
	t.Helper()
	header := l.ip(protocol)
	header.source, header.destination = l.peerOf(address), address
	l.send(t, n, l.frame(ethertypeOf(address), header.packet(payload)))
}

// peerOf returns the sender's address of the same version of IP.
func (l *Lab) peerOf(address netip.Addr) netip.Addr {
	if address.Is6() {
		return l.Sender.IPv6
	}
	return l.Sender.IPv4
}

func ipv4Of(l *Lab) netip.Addr { return l.Receiver.IPv4 }
func ipv6Of(l *Lab) netip.Addr { return l.Receiver.IPv6 }
