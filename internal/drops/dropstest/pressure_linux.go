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
// have as much memory as they may have.
func loseForMemory(t *testing.T, lab *Lab) Drop {
	const sent, size = 12, 1400
	kerneltest.NeedOwnMachine(t)
	reader := lab.openReader(t)
	must(unix.SetsockoptInt(reader, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, plenty))
	to := netip.AddrPortFrom(lab.Receiver.IPv4, openPort)
	lab.sendDatagrams(t, enough/size, to, size)
	before := lab.memoryErrors(t)
	limitMemory(t, "udp", func() { lab.sendDatagrams(t, sent, to, size) })
	dropped := enough/size + sent - countDatagrams(t, reader)
	if counted := lab.memoryErrors(t) - before; dropped < sent-1 || counted != 0 && counted != dropped {
		t.Errorf("of %d datagrams %d were dropped, and %d by MemErrors", sent, dropped, counted)
	}
	return Drop{"udp_queue_rcv_one_skb", "proto_mem", "loss", "ipv4", "udp", dropped}
}

func (l *Lab) memoryErrors(t *testing.T) (n int) {
	t.Helper()
	l.inReceiver(t, func() { n = counter(t, "snmp", "Udp:", "MemErrors") })
	return n
}

// udpMemoryShort returns how the kernel counts that, which Linux 6.18 does not.
func udpMemoryShort(t *testing.T, lab *Lab) map[string]int {
	before := lab.memoryErrors(t)
	loseForMemory(t, lab)
	if counted := lab.memoryErrors(t) - before; counted > 0 {
		return map[string]int{"UdpMemErrors": counted, "UdpInErrors": counted}
	}
	return map[string]int{}
}

// tcpMemoryShort lets segments arrive on a connection that has unread data when all TCP sockets of
// the machine together have as much memory as they may have: some after a gap, and then the next
// one. The number of lost ones is taken from the kernel's counter. One may fit into the rest of a
// page that the connection has, and after the next one the window is closed.
func tcpMemoryShort(t *testing.T, lab *Lab) map[string]int {
	const gapped = 3
	kerneltest.NeedOwnMachine(t)
	_, handshake := lab.beginHandshake(t, lab.Receiver.IPv4)
	handshake.sendACKs(t, 1)
	payload := strings.Repeat("x", 1400)
	data := func(n, at int) {
		handshake.send(t, n, segment{
			sequence: clientSequence + 1 + uint32(at*len(payload)), ack: handshake.synACK.sequence + 1, flags: flagACK, payload: payload,
		})
	}
	fillTCP(t)
	before := lab.segmentsShort(t)
	limitMemory(t, "tcp", func() {
		data(1, 0) // which an empty queue always accepts
		data(gapped, 2)
		data(1, 1)
	})
	lost := lab.segmentsShort(t)
	for name := range lost {
		if lost[name] -= before[name]; lost[name] == 0 {
			t.Errorf("%s has not grown", name)
		}
	}
	return lost
}

func (l *Lab) segmentsShort(t *testing.T) (lost map[string]int) {
	t.Helper()
	l.inReceiver(t, func() {
		lost = map[string]int{
			"TcpExtTCPRcvQDrop": counter(t, "netstat", "TcpExt:", "TCPRcvQDrop"), "TcpExtTCPOFODrop": counter(t, "netstat", "TcpExt:", "TCPOFODrop"),
		}
	})
	return lost
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
	fds[1], _, err = unix.Accept(listener)
	must(err)
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
