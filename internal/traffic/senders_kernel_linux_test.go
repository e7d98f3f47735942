// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// send sends n datagrams of size bytes to an address of the far end, where a
// socket receives them.
func (w *wire) send(t *testing.T, n, size int, to netip.Addr) {
	t.Helper()
	var from, receiver *net.UDPConn
	source := w.near.IPv4
	if to.Is6() {
		source = w.near.IPv6
	}
	w.inNear(func() { from = datagrams(t, source, 0) })
	w.inFar(func() { receiver = datagrams(t, to, 0) })
	sendTo(t, from, receiver.LocalAddr(), n, size, receiver)
}

// sendTo sends n datagrams and waits until each of the receivers has received all of them.
func sendTo(t *testing.T, from *net.UDPConn, to net.Addr, n, size int, receivers ...*net.UDPConn) {
	t.Helper()
	for range n {
		if _, err := from.WriteTo(make([]byte, size), to); err != nil {
			t.Fatal(err)
		}
		for _, receiver := range receivers {
			receive(t, receiver, size)
		}
	}
}

// receive waits until a socket has received size bytes.
func receive(t *testing.T, receiver *net.UDPConn, size int) {
	t.Helper()
	receiver.SetReadDeadline(time.Now().Add(patience))
	buffer := make([]byte, 65536)
	for got := 0; got < size; {
		n, err := receiver.Read(buffer)
		if err != nil {
			t.Fatalf("received %d of %d bytes: %v", got, size, err)
		}
		got += n
	}
}

// sendSegmented makes n calls, each of which sends a number of datagrams of 1000 bytes, to a receiver
// that receives them joined or one by one.
func (w *wire) sendSegmented(t *testing.T, n, datagramsAtOnce int, whole bool) {
	t.Helper()
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	w.inFar(func() { receiver = datagrams(t, w.far.IPv4, 0) })
	setOption(t, from, unix.SOL_UDP, unix.UDP_SEGMENT, 1000)
	if whole {
		setOption(t, receiver, unix.SOL_UDP, unix.UDP_GRO, 1)
	}
	sendTo(t, from, receiver.LocalAddr(), n, 1000*datagramsAtOnce, receiver)
}

// multicast sends n datagrams to a group that a number of sockets have joined.
func (w *wire) multicast(t *testing.T, n, size, sockets int) {
	t.Helper()
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 213), Port: 21300}
	var from *net.UDPConn
	var receivers []*net.UDPConn
	w.inFar(func() {
		device, err := net.InterfaceByName(w.far.Device)
		if err != nil {
			t.Fatal(err)
		}
		for range sockets {
			receiver, err := net.ListenMulticastUDP("udp4", device, group)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { receiver.Close() })
			receivers = append(receivers, receiver)
		}
	})
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	setOption(t, from, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0)
	sendTo(t, from, group, n, size, receivers...)
}

func (w *wire) broadcast(t *testing.T, n, size int) {
	t.Helper()
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	w.inFar(func() { receiver = datagrams(t, netip.IPv4Unspecified(), 0) })
	setOption(t, from, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	everyone := w.near.IPv4.As4()
	everyone[3] = 255 // of a network of 24 bits
	to := &net.UDPAddr{IP: everyone[:], Port: receiver.LocalAddr().(*net.UDPAddr).Port}
	sendTo(t, from, to, n, size, receiver)
}

// ping sends n echo requests with size bytes of data and waits for each answer.
func (w *wire) ping(t *testing.T, n, size int, to netip.Addr) {
	t.Helper()
	network, source, request := "ip4:icmp", w.near.IPv4, []byte{8, 0}
	if to.Is6() {
		network, source, request = "ip6:ipv6-icmp", w.near.IPv6, []byte{128, 0}
	}
	var conn *net.IPConn
	w.inNear(func() {
		var err error
		if conn, err = net.DialIP(network, &net.IPAddr{IP: source.AsSlice()}, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			t.Fatal(err)
		}
	})
	defer conn.Close()
	message := append(request, make([]byte, 6+size)...)
	if to.Is4() {
		check := checksum(message)
		message[2], message[3] = byte(check>>8), byte(check)
	}
	conn.SetDeadline(time.Now().Add(patience))
	for range n {
		if _, err := conn.Write(message); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 65536)); err != nil {
			t.Fatalf("no answer to a ping: %v", err)
		}
	}
}

// checksum returns the internet checksum.
func checksum(message []byte) uint16 {
	var sum uint32
	for i, b := range message {
		sum += uint32(b) << (8 * (1 - i%2))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// sendToNobody sends n datagrams to a port on which there is no socket.
func (w *wire) sendToNobody(t *testing.T, n, size int) {
	t.Helper()
	var from *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	for range n {
		if _, err := from.WriteTo(make([]byte, size), &net.UDPAddr{IP: w.far.IPv4.AsSlice(), Port: 9}); err != nil {
			t.Fatal(err)
		}
	}
}

// dialNobody connects n times to a port on which nothing listens.
func (w *wire) dialNobody(t *testing.T, n int) {
	t.Helper()
	w.inNear(func() {
		for range n {
			_, err := net.DialTimeout("tcp", netip.AddrPortFrom(w.far.IPv4, 9).String(), patience)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("dial a closed port: %v", err)
			}
		}
	})
}

// sendFrames sends n frames of size bytes, Ethernet header included, of a type
// that the far end does not know.
func (w *wire) sendFrames(t *testing.T, n, size int) {
	t.Helper()
	var fd int
	w.inNear(func() {
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); err != nil {
			t.Fatal(os.NewSyscallError("socket", err))
		}
	})
	defer unix.Close(fd)
	frame := make([]byte, size)
	copy(frame, w.macs[w.far.Device])
	copy(frame[6:], w.macs[w.near.Device])
	frame[12], frame[13] = 0x88, 0xb5 // the Local Experimental Ethertype of IEEE 802
	for range n {
		if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.near.Index}); err != nil {
			t.Fatal(os.NewSyscallError("sendto", err))
		}
	}
}
