// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const listenerPort = 7001

func fullAcceptQueue(t *testing.T, lab *Lab) Drop {
	return fillAcceptQueue(t, lab, lab.Receiver.IPv4, "ipv4")
}

func fullAcceptQueueIPv6(t *testing.T, lab *Lab) Drop {
	return fillAcceptQueue(t, lab, lab.Receiver.IPv6, "ipv6")
}

// fillAcceptQueue lets more clients connect than fit into the queue of a listener that never
// accepts. The number of lost packets is taken from the kernel's counter, since a client that is
// not closed in time tries again.
func fillAcceptQueue(t *testing.T, lab *Lab, address netip.Addr, networkType string) Drop {
	before := lab.listenOverflows(t)
	lab.listen(t, address)
	var clients []int
	for range 6 {
		clients = append(clients, lab.connect(t, address))
	}
	lost := func() int { return lab.listenOverflows(t) - before }
	allBut1 := len(clients) - 1
	if !within(time.Minute, func() bool { return lost() >= allBut1 }) {
		t.Errorf("ListenOverflows grew by %d, want at least one for each client but one", lost())
	}
	for _, fd := range clients {
		unix.Close(fd)
	}
	overflows := lost()
	return Drop{"", "nettap_listen_overflow", "loss", networkType, "tcp", overflows}
}

func lateACK(t *testing.T, lab *Lab) Drop {
	return comeLate(t, lab, lab.Receiver.IPv4, "ipv4")
}

func lateACKIPv6(t *testing.T, lab *Lab) Drop {
	return comeLate(t, lab, lab.Receiver.IPv6, "ipv6")
}

// comeLate begins a handshake, and ends it when the accept queue is full.
func comeLate(t *testing.T, lab *Lab, address netip.Addr, networkType string) Drop {
	const acks = 3
	before := lab.listenOverflows(t)
	listener, handshake := lab.beginHandshake(t, address)
	lab.fillQueue(t, listener, address)
	handshake.sendACKs(t, acks)
	overflows := 0
	if !within(time.Minute, func() bool {
		overflows = lab.listenOverflows(t) - before
		return overflows >= acks
	}) || overflows != acks {
		t.Errorf("ListenOverflows grew by %d, want %d", overflows, acks)
	}
	return Drop{"", "nettap_listen_overflow", "loss", networkType, "tcp", acks}
}

// LateCookie does the same with a listener that remembers a handshake only by a SYN cookie.
func LateCookie(t *testing.T, lab *Lab) Drop {
	t.Helper()
	const always = "2"
	lab.inReceiver(t, func() { setSysctl(t, "net/ipv4/tcp_syncookies", always) })
	return comeLate(t, lab, lab.Receiver.IPv4, "ipv4")
}

// TalkToFullListener sends packets that a listener with a full accept queue does not lose: a SYN
// that it has answered before, and an ACK that belongs to no handshake. It returns how many of
// them the kernel counts as lost to the queue nevertheless. This is 0, except before Linux 5.17,
// where some releases of 5.10 count them.
func TalkToFullListener(t *testing.T, lab *Lab) (overflows int) {
	t.Helper()
	start := lab.listenOverflows(t)
	for _, address := range []netip.Addr{lab.Receiver.IPv4, lab.Receiver.IPv6} {
		listener, handshake := lab.beginHandshake(t, address)
		lab.fillQueue(t, listener, address)
		handshake.sendSYNs(t, 3)
		handshake.source++
		handshake.sendACKs(t, 3)
	}
	return lab.listenOverflows(t) - start
}

// SendOldSegments sends n segments that the other end already has on a connection. TCP drops them
// when it no longer knows their device.
func SendOldSegments(t *testing.T, lab *Lab, n int) {
	t.Helper()
	_, handshake := lab.beginHandshake(t, lab.Receiver.IPv4)
	handshake.sendACKs(t, 1)
	handshake.send(t, n, segment{sequence: clientSequence - 100, ack: handshake.synACK.sequence + 1, flags: flagACK, payload: "old"})
}

// FloodSYNs sends SYNs to a listener that never accepts, from one port after the other of an address
// that does not answer, as long as more returns true.
func FloodSYNs(t *testing.T, lab *Lab, more func() bool) {
	t.Helper()
	header := lab.ip(protocolTCP)
	header.source = neighbour(header.destination)
	lab.knowNeighbour(t, header.source)
	lab.listen(t, lab.Receiver.IPv4)
	for more() {
		lab.sendSYNsFrom(t, header, 100)
	}
}

// fillQueue lets a client take the only place in a listener's queue. Until then another handshake
// could take it.
func (l *Lab) fillQueue(t *testing.T, listener int, address netip.Addr) {
	t.Helper()
	client := l.connect(t, address)
	t.Cleanup(func() { unix.Close(client) })
	if !within(time.Minute, func() bool {
		info, err := unix.GetsockoptTCPInfo(listener, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		return info.Unacked == 1 // for a listener this is the number of connections in its queue
	}) {
		t.Fatal("no connection came into the listener's queue")
	}
}

// within waits until a condition holds, but no longer than limit.
func within(limit time.Duration, is func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if is() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// listen opens a listener with room for one connection, which never accepts.
func (l *Lab) listen(t *testing.T, address netip.Addr) (fd int) {
	t.Helper()
	l.inReceiver(t, func() {
		fd = openStream(t, address, 0)
		t.Cleanup(func() { unix.Close(fd) })
		must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)) // there may be a connection of the port in TIME-WAIT
		if err := unix.Bind(fd, socketAddress(address, listenerPort)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(fd, 0); err != nil {
			t.Fatal(err)
		}
	})
	return fd
}

// connect begins to connect to the listener and does not wait. Closing the result resets the
// connection: the last segment of an orderly end would be dropped unread when the listener closes.
func (l *Lab) connect(t *testing.T, address netip.Addr) (fd int) {
	t.Helper()
	l.inSender(t, func() {
		fd = openStream(t, address, unix.SOCK_NONBLOCK)
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Connect(fd, socketAddress(address, listenerPort)); err != unix.EINPROGRESS {
			t.Fatalf("connect: %v", err)
		}
	})
	return fd
}

func openStream(t *testing.T, address netip.Addr, flags int) int {
	t.Helper()
	fd, err := unix.Socket(familyOf(address), unix.SOCK_STREAM|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func familyOf(address netip.Addr) int {
	if address.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func socketAddress(address netip.Addr, port int) unix.Sockaddr {
	if address.Is6() {
		return &unix.SockaddrInet6{Port: port, Addr: address.As16()}
	}
	return &unix.SockaddrInet4{Port: port, Addr: address.As4()}
}

// listenOverflows returns the receiver's ListenOverflows, and checks that its ListenDrops is the
// same.
func (l *Lab) listenOverflows(t *testing.T) (overflows int) {
	t.Helper()
	counters := l.counters(t)
	overflows = counters["TcpExtListenOverflows"]
	if drops := counters["TcpExtListenDrops"]; drops != overflows {
		t.Errorf("ListenDrops is %d, ListenOverflows %d", drops, overflows)
	}
	return overflows
}
