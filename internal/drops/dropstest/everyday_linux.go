// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// Everyday is ordinary traffic between two machines, in which nothing is lost.
type Everyday struct {
	Name string
	Do   func(t *testing.T, lab *Lab)
}

// EverydayLife returns all kinds that are known.
func EverydayLife() []Everyday {
	life := []Everyday{
		{"a ping", func(t *testing.T, lab *Lab) { ping(t, lab, "ip4:icmp", lab.Receiver.IPv4, 8, 0) }},
		{"a ping over IPv6", func(t *testing.T, lab *Lab) { ping(t, lab, "ip6:ipv6-icmp", lab.Receiver.IPv6, 128, 129) }},
		{"questions for addresses", askForAddresses},
		{"a search by mDNS", func(t *testing.T, lab *Lab) { call(t, lab, [4]byte{224, 0, 0, 251}, 5353) }},
		{"a search for a DHCP server", func(t *testing.T, lab *Lab) { call(t, lab, [4]byte{255, 255, 255, 255}, 67) }},
		{"a server under load", func(t *testing.T, lab *Lab) {
			n := 300
			if testing.Short() {
				// an emulated machine is so slow with more that TCP retransmits
				// what has already arrived
				n = 20
			}
			connect(t, lab, n, download)
		}},
	}
	for _, w := range ways {
		life = append(life, Everyday{"connections: " + w.name, func(t *testing.T, lab *Lab) { connect(t, lab, 20, w) }})
	}
	return life
}

// way is one of the ways in which a connection may end after a request and its answer.
type way struct {
	name           string
	client, server func(*net.TCPConn)
}

var ways = []way{
	{"the client closes first", closeNow, closeAfter},
	{"the server closes first", closeAfter, closeNow},
	{"both close at once", closeNow, closeNow},
	{"the client closes one half, and the server goes on", func(c *net.TCPConn) {
		must(c.CloseWrite())
		closeAfter(c)
	}, func(c *net.TCPConn) {
		io.Copy(io.Discard, c) //nolint:errcheck // until the other side closes
		write(c, 100_000)
		must(c.Close())
	}},
	{"the client resets", reset, closeAfter},
	{"the server resets", closeAfter, reset},
	{"both reset", reset, reset},
	{"the server closes with data unread", func(c *net.TCPConn) {
		write(c, 100)
		closeAfter(c)
	}, func(c *net.TCPConn) {
		read(c, 1)
		closeNow(c)
	}},
}

// download is an answer that needs many segments.
var download = way{"a download", closeAfter, func(c *net.TCPConn) {
	write(c, 100_000)
	closeNow(c)
}}

func closeNow(c *net.TCPConn) { must(c.Close()) }

// closeAfter closes the connection after the other side has done so.
func closeAfter(c *net.TCPConn) {
	io.Copy(io.Discard, c) //nolint:errcheck // it may be reset
	closeNow(c)
}

func reset(c *net.TCPConn) {
	must(c.SetLinger(0))
	closeNow(c)
}

func read(c *net.TCPConn, size int) {
	_, err := io.ReadFull(c, make([]byte, size))
	must(err)
}

func write(c *net.TCPConn, size int) {
	_, err := c.Write(make([]byte, size))
	must(err)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// connect makes n connections at the same time, which all end in the same way.
func connect(t *testing.T, lab *Lab, n int, w way) {
	t.Helper()
	listener := lab.listenAnywhere(t)
	defer listener.Close()
	done := make(chan struct{})
	for range n {
		client, server := lab.join(t, listener)
		go func() {
			write(client, 100)
			read(client, 1000)
			w.client(client)
			done <- struct{}{}
		}()
		go func() {
			read(server, 100)
			write(server, 1000)
			w.server(server)
			done <- struct{}{}
		}()
	}
	for range 2 * n {
		<-done
	}
}

// ping asks ten times, by a raw socket, and waits for the answers.
func ping(t *testing.T, lab *Lab, network string, to netip.Addr, request, answer byte) {
	t.Helper()
	lab.inSender(t, func() {
		socket, err := net.ListenPacket(network, "")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		must(socket.SetDeadline(time.Now().Add(kerneltest.Patience)))
		for i := range 10 {
			echo := []byte{request, 0, 0, 0, 0, 7, 0, byte(i)}
			if request == 8 { // the kernel computes that of ICMPv6
				sum := checksum(echo)
				echo[2], echo[3] = byte(sum>>8), byte(sum)
			}
			if _, err := socket.WriteTo(echo, &net.IPAddr{IP: to.AsSlice()}); err != nil {
				t.Fatalf("ping: %v", err)
			}
			for heard := make([]byte, 100); heard[0] != answer || heard[7] != byte(i); {
				if _, _, err := socket.ReadFrom(heard); err != nil {
					t.Fatalf("ping: %v", err)
				}
			}
		}
	})
}

// call sends ten broadcast datagrams to a port on which no one listens.
func call(t *testing.T, lab *Lab, to [4]byte, port int) {
	t.Helper()
	lab.inSender(t, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		index := &unix.IPMreqn{Ifindex: int32(lab.Sender.Index)}
		must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
		must(unix.BindToDevice(fd, lab.Sender.Device))
		must(unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, index))
		for range 10 {
			if err := unix.Sendto(fd, make([]byte, 50), 0, &unix.SockaddrInet4{Addr: to, Port: port}); err != nil {
				t.Fatalf("call: %v", err)
			}
		}
	})
}

// askForAddresses sends ARP requests for the receiver, for an address that no one has, and for the
// sender itself.
func askForAddresses(t *testing.T, lab *Lab) {
	t.Helper()
	everyone := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, target := range []netip.Addr{lab.Receiver.IPv4, neighbour(lab.Receiver.IPv4), lab.Sender.IPv4} {
		question := []byte{0, 1, 8, 0, 6, 4, 0, 1}
		question = append(append(question, lab.senderMAC...), lab.Sender.IPv4.AsSlice()...)
		question = append(append(question, make([]byte, 6)...), target.AsSlice()...)
		lab.send(t, 10, ethernet(everyone, lab.senderMAC, 0x0806, question))
	}
}

// Stray sends segments of connections that the receiver does not have, and returns what its kernel
// drops. Resets, FINs and ACKs carry nothing that could be lost.
func Stray(t *testing.T, lab *Lab) []Drop {
	t.Helper()
	const flagFIN, flagRST = 0x01, 0x04
	send := func(n int, flags byte, payload string) {
		s := segment{source: 1111, destination: closedPort, flags: flags, payload: payload}
		lab.send(t, n, lab.frame(etherIPv4, lab.ip(protocolTCP).packet(s.bytes(lab.Sender.IPv4, lab.Receiver.IPv4))))
	}
	send(1, flagRST, "")
	send(2, flagRST|flagACK, "")
	send(3, flagFIN|flagACK, "")
	send(4, flagACK, "")
	send(5, flagACK, "data")
	send(6, flagSYN, "")
	drop := Drop{"tcp_v4_rcv", "no_socket", "benign", "ipv4", "tcp", 1 + 2 + 3 + 4}
	lost := drop
	lost.Class, lost.Packets = "loss", 5+6
	return []Drop{drop, lost}
}
