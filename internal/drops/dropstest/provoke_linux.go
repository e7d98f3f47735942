// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Drop is a series of nettap.packet.dropped with its value. What is not known is empty.
type Drop struct {
	Function, Reason, Class, Type, Transport string
	Packets                                  int
}

// Provocation makes the kernel drop packets in one way.
type Provocation struct {
	Name string

	// Provoke returns what it made the receiver's kernel drop. It may skip the test if this
	// machine lacks something.
	Provoke func(t *testing.T, lab *Lab) Drop
}

// KnownFunction returns the name that a function has in Linux 6.18, which all expectations use. A
// suffix that a compiler added (".isra.0") is removed.
func KnownFunction(name string) string {
	name, _, _ = strings.Cut(name, ".")
	if known, ok := elsewhere[name]; ok {
		return known
	}
	return name
}

// elsewhere are the functions that drop in other kernels instead.
var elsewhere = map[string]string{
	"ip_protocol_deliver_rcu": "ip_local_deliver_finish", // if the compiler keeps them separate

	"nf_hook_slow": "nft_do_chain", // if the latter only returns the verdict
	// 6.18 reports it only for datagrams without memory
	"__udp_enqueue_schedule_skb": "udp_queue_rcv_one_skb",

	"udp_rcv":   "__udp4_lib_rcv", // 7.3
	"udpv6_rcv": "__udp6_lib_rcv", // 7.3
}

// Provocations returns all that are known.
func Provocations() []Provocation {
	return []Provocation{
		{"a datagram for a closed port", closedUDPPort},
		{"a datagram for a closed port over IPv6", closedUDPPortIPv6},
		{"a connection to a closed port", closedTCPPort},
		{"a datagram for a reader that is too slow", fullReceiveBuffer},
		{"a datagram with a bad checksum", badUDPChecksum},
		{"a segment with a bad checksum", badTCPChecksum},
		{"a segment with a bad checksum behind an extension header", badTCPChecksumIPv6},
		{"an IP header with a bad checksum", badIPChecksum},
		{"an IP header that promises more than comes", shortPacket},
		{"a packet to pass on whose TTL has run out", expiredTTL},
		{"a packet to pass on without a route", noRoute},
		{"a packet that cannot come from there", wrongWay},
		{"a packet of an unknown IP protocol", unknownProtocol},
		{"a frame of an unknown type", unknownEthertype},
		{"a frame for another machine", otherHost},
		{"a packet into a black hole", blackHole},
		{"a packet that a firewall rule drops", firewall},
		{"a connection to a listener whose accept queue is full", fullAcceptQueue},
		{"a connection over IPv6 to a listener whose accept queue is full", fullAcceptQueueIPv6},
		{"a handshake's last ACK for a listener whose accept queue is full", lateACK},
		{"a handshake's last ACK over IPv6 for a listener whose accept queue is full", lateACKIPv6},
	}
}

// ClosedPort is a port of the receiver on which no one listens.
const ClosedPort = closedPort

const (
	closedPort = 9999
	openPort   = 7777
)

func closedUDPPort(t *testing.T, lab *Lab) Drop {
	return Drop{"__udp4_lib_rcv", "no_socket", "loss", "ipv4", "udp", closedUDPPortAt(t, lab, lab.Receiver.IPv4)}
}

func closedUDPPortIPv6(t *testing.T, lab *Lab) Drop {
	return Drop{"__udp6_lib_rcv", "no_socket", "loss", "ipv6", "udp", closedUDPPortAt(t, lab, lab.Receiver.IPv6)}
}

func closedTCPPort(t *testing.T, lab *Lab) Drop {
	lab.inSender(t, func() {
		for range 3 {
			connection, err := net.DialTimeout("tcp", netip.AddrPortFrom(lab.Receiver.IPv4, closedPort).String(), time.Minute)
			if err == nil {
				connection.Close()
				t.Fatal("a closed port accepts connections")
			}
		}
	})
	return Drop{"tcp_v4_rcv", "no_socket", "loss", "ipv4", "tcp", 3}
}

func fullReceiveBuffer(t *testing.T, lab *Lab) Drop {
	dropped := lab.overfill(t, lab.Receiver.IPv4, "UdpRcvbufErrors")
	return Drop{"udp_queue_rcv_one_skb", "socket_rcvbuff", "loss", "ipv4", "udp", dropped}
}

// overfill sends a reader at an address more than it has room for. How many are lost is taken from
// the kernel's counter.
func (l *Lab) overfill(t *testing.T, address netip.Addr, counter string) (dropped int) {
	t.Helper()
	const sent = 30
	reader := l.openReader(t, address)
	if err := unix.SetsockoptInt(reader, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	before := l.counter(t, counter)
	l.sendDatagrams(t, sent, netip.AddrPortFrom(address, openPort), 900)
	received := 0
	for deadline := time.Now().Add(time.Minute); received+dropped < sent && time.Now().Before(deadline); {
		received += countDatagrams(t, reader)
		dropped = l.counter(t, counter) - before
	}
	if received+dropped != sent || dropped == 0 {
		t.Errorf("of %d datagrams %d were received, and %d dropped by %s", sent, received, dropped, counter)
	}
	return dropped
}

func badUDPChecksum(t *testing.T, lab *Lab) Drop {
	return Drop{"__udp4_lib_rcv", "udp_csum", "loss", "ipv4", "udp", badUDPChecksumAt(t, lab, lab.Receiver.IPv4)}
}

func badTCPChecksum(t *testing.T, lab *Lab) Drop {
	header := lab.ip(protocolTCP)
	syn := segment{source: 1111, destination: closedPort, flags: flagSYN, badChecksum: true}
	lab.send(t, 7, lab.frame(etherIPv4, header.packet(syn.bytes(header.source, header.destination))))
	return Drop{"tcp_v4_rcv", "tcp_csum", "loss", "ipv4", "tcp", 7}
}

func badTCPChecksumIPv6(t *testing.T, lab *Lab) Drop {
	const destinationOptions = 60
	padding := []byte{protocolTCP, 0, 1, 4, 0, 0, 0, 0} // next header, length, option PadN
	header := ipHeader{protocol: destinationOptions, ttl: 64, source: lab.Sender.IPv6, destination: lab.Receiver.IPv6}
	syn := segment{source: 1111, destination: closedPort, flags: flagSYN, badChecksum: true}
	lab.send(t, 7, lab.frame(etherIPv6, header.packet(append(padding, syn.bytes(header.source, header.destination)...))))
	return Drop{"tcp_v6_rcv", "tcp_csum", "loss", "ipv6", "tcp", 7}
}

func badIPChecksum(t *testing.T, lab *Lab) Drop {
	header := lab.ip(protocolUDP)
	header.badChecksum = true
	lab.send(t, 8, lab.frame(etherIPv4, header.packet(udp(1111, openPort, 0, "damaged"))))
	return Drop{"ip_rcv_core", "ip_csum", "loss", "ipv4", "udp", 8}
}

func shortPacket(t *testing.T, lab *Lab) Drop {
	header := lab.ip(protocolUDP)
	header.excess = 900
	lab.send(t, 9, lab.frame(etherIPv4, header.packet(udp(1111, openPort, 0, "short"))))
	return Drop{"ip_rcv_core", "pkt_too_small", "loss", "ipv4", "udp", 9}
}

func expiredTTL(t *testing.T, lab *Lab) Drop {
	header := lab.ip(protocolUDP)
	header.ttl = 1
	header.destination = neighbour(lab.Receiver.IPv4)
	lab.send(t, 10, lab.frame(etherIPv4, header.packet(udp(1111, openPort, 0, "old"))))
	return Drop{"ip_forward", "ip_inhdr", "loss", "ipv4", "udp", 10}
}

func noRoute(t *testing.T, lab *Lab) Drop {
	header := lab.ip(protocolUDP)
	header.destination = netip.MustParseAddr("198.51.100.7")
	lab.send(t, 11, lab.frame(etherIPv4, header.packet(udp(1111, openPort, 0, "lost"))))
	return Drop{"ip_error", "ip_innoroutes", "loss", "ipv4", "udp", 11}
}

func wrongWay(t *testing.T, lab *Lab) Drop {
	header := lab.ip(protocolUDP)
	header.source = netip.MustParseAddr("198.51.100.7")
	lab.send(t, 12, lab.frame(etherIPv4, header.packet(udp(1111, openPort, 0, "forged"))))
	return Drop{"ip_rcv_finish_core", "ip_rpfilter", "loss", "ipv4", "udp", 12}
}

func unknownProtocol(t *testing.T, lab *Lab) Drop {
	const forExperiments = 253
	lab.send(t, 13, lab.frame(etherIPv4, lab.ip(forExperiments).packet([]byte("unknown"))))
	return Drop{"ip_local_deliver_finish", "ip_noproto", "loss", "ipv4", "", 13}
}

func unknownEthertype(t *testing.T, lab *Lab) Drop {
	const forExperiments = 0x88b5
	lab.send(t, 14, lab.frame(forExperiments, make([]byte, 50)))
	return Drop{"__netif_receive_skb_core", "unhandled_proto", "unknown", "", "", 14}
}

func otherHost(t *testing.T, lab *Lab) Drop {
	packet := lab.ip(protocolUDP).packet(udp(1111, openPort, 0, "not yours"))
	lab.send(t, 15, ethernet([]byte{2, 0, 0, 0, 0, 99}, lab.senderMAC, etherIPv4, packet))
	return Drop{"ip_rcv_core", "otherhost", "benign", "ipv4", "udp", 15}
}

func blackHole(t *testing.T, lab *Lab) Drop {
	hole := netip.MustParsePrefix("203.0.113.0/24")
	lab.inReceiver(t, func() {
		route := netlink.Route{Type: unix.RTN_BLACKHOLE, Dst: &net.IPNet{IP: hole.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}}
		if err := netlink.RouteAdd(&route); err != nil {
			t.Fatalf("add black hole: %v", err)
		}
	})
	header := lab.ip(protocolUDP)
	header.destination = hole.Addr().Next()
	lab.send(t, 16, lab.frame(etherIPv4, header.packet(udp(1111, openPort, 0, "gone"))))
	return Drop{"ip_error", "not_specified", "unknown", "ipv4", "udp", 16}
}

func firewall(t *testing.T, lab *Lab) Drop {
	const rules = "table ip nettap {\n chain in {\n  type filter hook input priority 0\n  udp dport 7777 drop\n }\n}\n"
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip(err)
	}
	lab.inReceiver(t, func() {
		nft := exec.Command("nft", "-f", "-")
		nft.Stdin = strings.NewReader(rules)
		if out, err := nft.CombinedOutput(); err != nil {
			t.Skipf("nft: %v: %s", err, out)
		}
		t.Cleanup(func() {
			lab.inReceiver(t, func() { _ = exec.Command("nft", "delete", "table", "ip", "nettap").Run() })
		})
	})
	lab.sendDatagrams(t, 17, netip.AddrPortFrom(lab.Receiver.IPv4, openPort), 50)
	return Drop{"nft_do_chain", "netfilter_drop", "loss", "ipv4", "udp", 17}
}

// sendDatagrams sends n datagrams of size bytes from the sender.
func (l *Lab) sendDatagrams(t *testing.T, n int, to netip.AddrPort, size int) {
	t.Helper()
	l.inSender(t, func() {
		socket, err := net.ListenPacket("udp", "")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		for range n {
			if _, err := socket.WriteTo(make([]byte, size), net.UDPAddrFromAddrPort(to)); err != nil {
				t.Fatalf("send datagram: %v", err)
			}
		}
	})
}

// KnockFromOnePort sends n datagrams of 50 bytes to a closed port, and returns the port that they
// come from.
func KnockFromOnePort(t *testing.T, lab *Lab, n int) (port int) {
	t.Helper()
	lab.inSender(t, func() {
		socket, err := net.ListenUDP("udp4", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		for range n {
			if _, err := socket.WriteToUDPAddrPort(make([]byte, 50), netip.AddrPortFrom(lab.Receiver.IPv4, closedPort)); err != nil {
				t.Fatal(err)
			}
		}
		port = socket.LocalAddr().(*net.UDPAddr).Port
	})
	return port
}

// KnockWithSegments sends the same SYN n times to a closed port.
func KnockWithSegments(t *testing.T, lab *Lab, source uint16, n int) {
	t.Helper()
	header := lab.ip(protocolTCP)
	syn := segment{source: source, destination: closedPort, sequence: clientSequence, flags: flagSYN}
	lab.send(t, n, lab.frame(etherIPv4, header.packet(syn.bytes(header.source, header.destination))))
}

// Storm sends one datagram of each of many flows to a closed port, as fast as two threads can.
func Storm(t *testing.T, lab *Lab, flows int) {
	t.Helper()
	const threads = 2
	var running sync.WaitGroup
	defer running.Wait()
	for thread := range threads {
		var fd int
		lab.inSender(t, func() {
			var err error
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); err != nil {
				t.Fatal(err)
			}
		})
		to := &unix.SockaddrLinklayer{Ifindex: lab.Sender.Index}
		running.Go(func() {
			defer unix.Close(fd)
			for flow := thread; flow < flows; flow += threads {
				frame := lab.frame(etherIPv4, lab.ip(protocolUDP).packet(udp(uint16(1+flow), closedPort, 0, "storm")))
				if err := unix.Sendto(fd, frame, 0, to); err != nil {
					t.Errorf("send frame: %v", err)
					return
				}
			}
		})
	}
}

// openReader opens a UDP socket of the receiver, which never blocks.
func (l *Lab) openReader(t *testing.T, address netip.Addr) (fd int) {
	t.Helper()
	l.inReceiver(t, func() {
		var err error
		if fd, err = unix.Socket(familyOf(address), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Bind(fd, socketAddress(address, openPort)); err != nil {
			t.Fatal(err)
		}
	})
	return fd
}

// countDatagrams reads all datagrams of a socket, and returns their number.
func countDatagrams(t *testing.T, fd int) int {
	t.Helper()
	for n := 0; ; n++ {
		if _, _, err := unix.Recvfrom(fd, make([]byte, 2048), 0); err == unix.EAGAIN {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// neighbour returns an address of the same network that no one has.
func neighbour(address netip.Addr) netip.Addr {
	bytes := address.AsSlice()
	bytes[len(bytes)-1] = 77
	other, _ := netip.AddrFromSlice(bytes)
	return other
}
