// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

const (
	plenty = 64 << 20 // bytes of a buffer that must not be the limit

	// enough is more bytes than each CPU may reserve for a protocol, from Linux 6.0 on, so
	// that some of them are in the account that is compared with the limit.
	enough = 4 << 20
)

// loseForMemory lets datagrams arrive for a reader when all UDP sockets of the machine together
// have as much memory as they may have, and returns how many are lost.
func (l *Lab) loseForMemory(t *testing.T, address netip.Addr) (dropped int) {
	t.Helper()
	const sent, size = 12, 1400
	kerneltest.NeedOwnMachine(t)
	reader := l.openReader(t, address)
	must(unix.SetsockoptInt(reader, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, plenty))
	to := netip.AddrPortFrom(address, openPort)
	l.sendDatagrams(t, enough/size, to, size)
	limitMemory(t, "udp", func() { l.sendDatagrams(t, sent, to, size) })
	if dropped = enough/size + sent - countDatagrams(t, reader); dropped < sent-1 {
		t.Errorf("of %d datagrams %d were dropped", sent, dropped)
	}
	return dropped
}

// udpMemoryShort returns how the kernel counts that, which Linux 6.18 does not.
func udpMemoryShort(address func(*Lab) netip.Addr, group string) func(*testing.T, *Lab) map[string]int {
	return func(t *testing.T, lab *Lab) map[string]int {
		dropped := 0
		grown := lab.growth(t, together(0), func() { dropped = lab.loseForMemory(t, address(lab)) }, group+"MemErrors", group+"InErrors")
		for counter, n := range grown {
			if n != dropped {
				t.Errorf("%s counts %d of %d", counter, n, dropped)
			}
		}
		return grown
	}
}

// tcpMemoryShort lets segments arrive on a connection that has unread data when all TCP sockets of
// the machine together have as much memory as they may have.
func tcpMemoryShort(t *testing.T, lab *Lab) map[string]int {
	kerneltest.NeedOwnMachine(t)
	_, handshake := lab.beginHandshake(t, lab.Receiver.IPv4)
	handshake.sendACKs(t, 1)
	fillTCP(t)
	return handshake.loseSegments(t, 0, func(while func()) { limitMemory(t, "tcp", while) })
}

const segmentSize = 1400

// loseSegments sends segments to a connection that has got a number of them, and now has no room: one,
// some after a gap, and then that of the gap. The number of lost ones is taken from the kernel's
// counters, as one may fit into the rest of a page that the connection has, and an empty queue accepts
// any.
func (h *handshake) loseSegments(t *testing.T, got uint32, withoutRoom func(while func())) map[string]int {
	t.Helper()
	const gapped = 3
	const inOrder, outOfOrder = "TcpExtTCPRcvQDrop", "TcpExtTCPOFODrop"
	both := func(grown map[string]int) bool { return grown[inOrder] > 0 && grown[outOfOrder] > 0 }
	grown := h.lab.growth(t, both, func() {
		withoutRoom(func() {
			h.send(t, 1, h.data(got*segmentSize, segmentSize))
			h.send(t, gapped, h.data((got+2)*segmentSize, segmentSize))
			h.send(t, 1, h.data((got+1)*segmentSize, segmentSize))
		})
	}, inOrder, outOfOrder)
	return map[string]int{inOrder + " + " + outOfOrder: grown[inOrder] + grown[outOfOrder]}
}

// fillTCP lets a connection have much unread data.
func fillTCP(t *testing.T) {
	t.Helper()
	pair := connectedPair(t)
	must(unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, plenty))
	for written := 0; written < enough; {
		n, err := unix.Write(pair[0], make([]byte, enough-written))
		if err != nil {
			t.Fatalf("fill a connection: %v", err)
		}
		written += n
	}
}

// connectedPair returns both ends of a connection over the loopback interface.
func connectedPair(t *testing.T) (fds [2]int) {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	listener := openStream(t, loopback, 0)
	defer unix.Close(listener)
	must(unix.Bind(listener, &unix.SockaddrInet4{Addr: loopback.As4()}))
	must(unix.Listen(listener, 1))
	address, err := unix.Getsockname(listener)
	must(err)
	fds[0] = openStream(t, loopback, 0)
	t.Cleanup(func() { unix.Close(fds[0]) })
	must(unix.Connect(fds[0], address))
	fds[1] = kerneltest.AcceptOn(t, listener)
	t.Cleanup(func() { unix.Close(fds[1]) })
	return fds
}

// limitMemory limits a protocol to the memory that it has, while something runs.
func limitMemory(t *testing.T, protocol string, while func()) {
	t.Helper()
	name := "net/ipv4/" + protocol + "_mem"
	usual, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if !within(time.Minute, func() bool { return pagesOf(t, protocol) > 1 }) {
		t.Fatalf("%s has no memory in use", protocol)
	}
	setSysctl(t, name, "1 1 1")
	defer setSysctl(t, name, string(usual))
	while()
}

// pagesOf returns how much memory all sockets of a protocol have together.
func pagesOf(t *testing.T, protocol string) (pages int) {
	t.Helper()
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, rest, _ := strings.Cut(line, ":"); strings.EqualFold(name, protocol) {
			_, number, _ := strings.Cut(rest, " mem ")
			if _, err := fmt.Sscan(number, &pages); err != nil {
				t.Fatalf("memory in %q: %v", line, err)
			}
		}
	}
	return pages
}
