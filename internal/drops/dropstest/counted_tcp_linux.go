// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func countedTCP() []CountedProvocation {
	return []CountedProvocation{
		counted("a segment with a bad checksum", badTCPChecksum, "TcpInCsumErrors", "TcpInErrs"),
		times("a segment with too short a header", shortSegment(ipv4Of), "TcpInErrs"),
		times("a segment with too short a header over IPv6", shortSegment(ipv6Of), "TcpInErrs"),
		times("a SYN on a connection", lateSYN, "TcpInErrs"),
		times("a segment from farther away than allowed", segmentFromAfar(ipv4Of), "TcpExtTCPMinTTLDrop"),
		times("a segment from farther away than allowed over IPv6", segmentFromAfar(ipv6Of), "TcpExtTCPMinTTLDrop"),
		times("a segment without the signature that it needs", unsigned, "TcpExtTCPMD5NotFound"),
		times("a segment with a signature for which there is no key", signedForNothing, "TcpExtTCPMD5Unexpected"),
		times("a segment with a wrong signature", signedWrongly, "TcpExtTCPMD5Failure"),
		{"a segment that is older than the last one", outdatedSegment},
		{"an ACK that is older than the last one", outdatedACK},
		{"a handshake's last ACK that is older than its SYN", outdatedHandshake(ipv4Of)},
		{"a handshake's last ACK over IPv6 that is older than its SYN", outdatedHandshake(ipv6Of)},
		{"a handshake's last ACK that echoes another clock", foreignEcho},
		{"a segment for a closed connection that is older than its last one", outdatedAfterClose},
		{"an answer to a SYN that echoes another clock", foreignAnswer},
		{"a segment for which a connection has no room", overfullConnection},
		times("a segment for a window that is closed", closedWindow, "TcpExtTCPZeroWindowDrop"),
		{"a segment for a connection whose backlog is full", fullBacklog},
		counted("a connection to a listener whose accept queue is full", fullAcceptQueue, overflows, "TcpExtListenDrops"),
		{"a connection to a listener both of whose queues are full", fullQueues},
		{"a segment when TCP has no memory left", tcpMemoryShort},
	}
}

func shortSegment(address func(*Lab) netip.Addr) func(*testing.T, *Lab) int {
	return func(t *testing.T, lab *Lab) int {
		to := address(lab)
		syn := segment{source: 1111, destination: closedPort, flags: flagSYN, tooShort: true}
		lab.sendTo(t, 7, to, protocolTCP, syn.bytes(lab.peerOf(to), to))
		return 7
	}
}

func lateSYN(t *testing.T, lab *Lab) int {
	_, h := lab.beginHandshake(t, lab.Receiver.IPv4)
	h.sendACKs(t, 1)
	h.send(t, 6, segment{sequence: clientSequence + 1, flags: flagSYN})
	return 6
}

// segmentFromAfar sends SYNs that have come over too many hops.
func segmentFromAfar(address func(*Lab) netip.Addr) func(*testing.T, *Lab) int {
	return func(t *testing.T, lab *Lab) int {
		to := address(lab)
		listener := lab.listen(t, to)
		if to.Is6() {
			const minHopCount = 73 // IPV6_MINHOPCOUNT
			must(unix.SetsockoptInt(listener, unix.IPPROTO_IPV6, minHopCount, 255))
		} else {
			must(unix.SetsockoptInt(listener, unix.IPPROTO_IP, unix.IP_MINTTL, 255))
		}
		lab.sendSYNs(t, 8, to, nil)
		return 8
	}
}

// sendSYNs sends the listener a SYN n times.
func (l *Lab) sendSYNs(t *testing.T, n int, to netip.Addr, options []byte) {
	t.Helper()
	syn := segment{source: 1111, destination: listenerPort, sequence: clientSequence, flags: flagSYN, options: options}
	l.sendTo(t, n, to, protocolTCP, syn.bytes(l.peerOf(to), to))
}

func unsigned(t *testing.T, lab *Lab) int {
	lab.listenWithKey(t)
	lab.sendSYNs(t, 5, lab.Receiver.IPv4, nil)
	return 5
}

func signedWrongly(t *testing.T, lab *Lab) int {
	lab.listenWithKey(t)
	lab.sendSYNs(t, 7, lab.Receiver.IPv4, md5Option())
	return 7
}

func signedForNothing(t *testing.T, lab *Lab) int {
	lab.listen(t, lab.Receiver.IPv4)
	lab.sendSYNs(t, 6, lab.Receiver.IPv4, md5Option())
	return 6
}

// listenWithKey opens a listener that wants the sender to sign its segments.
func (l *Lab) listenWithKey(t *testing.T) {
	t.Helper()
	listener := l.listen(t, l.Receiver.IPv4)
	key := unix.TCPMD5Sig{Addr: unix.SockaddrStorage{Family: unix.AF_INET}, Keylen: 6}
	copy(key.Addr.Data[2:], l.Sender.IPv4.AsSlice()) // after the port
	copy(key.Key[:], "secret")
	must(unix.SetsockoptTCPMD5Sig(listener, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &key))
}

// clientClock is the client's clock when its handshake begins.
const clientClock = 1_000_000

func (l *Lab) beginHandshakeWithClock(t *testing.T, address netip.Addr) (listener int, h *handshake) {
	t.Helper()
	listener, h = l.beginHandshakeWith(t, address, timestamps(clientClock, 0))
	if h.synACK.clock() == 0 {
		t.Fatal("the listener does not send timestamps")
	}
	h.options = timestamps(clientClock, h.synACK.clock())
	return listener, h
}

// outdated returns the option of a segment that the client sent before the handshake.
func (h *handshake) outdated() []byte { return timestamps(clientClock-1000, h.synACK.clock()) }

// An old segment may be counted in either of two ways.
var pawsCounters = []string{"TcpExtPAWSEstab", "TcpExtPAWSOldAck", "TcpExtPAWSTimewait"}

func outdatedSegment(t *testing.T, lab *Lab) map[string]int {
	_, h := lab.beginHandshakeWithClock(t, lab.Receiver.IPv4)
	h.sendACKs(t, 1)
	return lab.growth(t, together(6), func() {
		h.send(t, 6, segment{sequence: clientSequence + 1, ack: h.synACK.sequence + 1, flags: flagACK, options: h.outdated(), payload: "old"})
	}, pawsCounters...)
}

// outdatedACK sends ACKs for which Linux 6.14 and later have a reason and a counter of their own.
func outdatedACK(t *testing.T, lab *Lab) map[string]int {
	_, h := lab.beginHandshakeWithClock(t, lab.Receiver.IPv4)
	h.sendACKs(t, 1)
	return lab.growth(t, together(7), func() {
		h.send(t, 7, segment{sequence: clientSequence, ack: h.synACK.sequence + 1, flags: flagACK, options: h.outdated()})
	}, pawsCounters...)
}

func outdatedHandshake(address func(*Lab) netip.Addr) func(*testing.T, *Lab) map[string]int {
	return func(t *testing.T, lab *Lab) map[string]int {
		_, h := lab.beginHandshakeWithClock(t, address(lab))
		return lab.growth(t, together(5), func() {
			h.send(t, 5, segment{sequence: clientSequence + 1, ack: h.synACK.sequence + 1, flags: flagACK, options: h.outdated()})
		}, pawsCounters...)
	}
}

// foreignEcho does nothing on kernels that do not check the echo: they would make a connection.
func foreignEcho(t *testing.T, lab *Lab) map[string]int {
	const counter = "TcpExtTSEcrRejected"
	if _, checks := lab.counters(t)[counter]; !checks {
		return map[string]int{}
	}
	_, h := lab.beginHandshakeWithClock(t, lab.Receiver.IPv4)
	return lab.growth(t, together(4), func() {
		h.send(t, 4, segment{
			sequence: clientSequence + 1, ack: h.synACK.sequence + 1, flags: flagACK, options: timestamps(clientClock, h.synACK.clock()+1_000_000),
		})
	}, counter)
}

// outdatedAfterClose lets the receiver close a connection first, so that it remembers it for a while.
func outdatedAfterClose(t *testing.T, lab *Lab) map[string]int {
	listener, h := lab.beginHandshakeWithClock(t, lab.Receiver.IPv4)
	h.sendACKs(t, 1)
	server := kerneltest.AcceptOn(t, listener)
	must(unix.Close(server))
	fin := h.receive(t)
	for fin.flags&flagFIN == 0 {
		fin = h.receive(t)
	}
	h.send(t, 1, segment{sequence: clientSequence + 1, ack: fin.sequence + 1, flags: flagFIN | flagACK})
	h.receive(t)
	return lab.growth(t, together(3), func() {
		h.send(t, 3, segment{sequence: clientSequence + 1, ack: fin.sequence + 1, flags: flagACK, options: h.outdated(), payload: "old"})
	}, pawsCounters...)
}

// foreignAnswer lets the receiver connect to an address that no one has, and answers with what is not
// meant for its SYN.
func foreignAnswer(t *testing.T, lab *Lab) map[string]int {
	nobody := neighbour(lab.Receiver.IPv4)
	lab.knowNeighbour(t, nobody)
	answers := lab.openAnswers(t, etherIPv4)
	lab.inReceiver(t, func() {
		client := openStream(t, nobody, unix.SOCK_NONBLOCK)
		t.Cleanup(func() { unix.Close(client) })
		if err := unix.Connect(client, socketAddress(nobody, openPort)); err != unix.EINPROGRESS {
			t.Fatalf("connect: %v", err)
		}
	})
	syn := receive(t, answers, nobody, func(s segment) bool { return s.flags == flagSYN })
	answer := segment{
		source: openPort, destination: syn.source, sequence: clientSequence, ack: syn.sequence + 1, flags: flagSYN | flagACK,
		options: timestamps(clientClock, syn.clock()-1_000_000),
	}
	header := lab.ip(protocolTCP)
	header.source = nobody
	return lab.growth(t, together(1), func() {
		lab.send(t, 1, lab.frame(etherIPv4, header.packet(answer.bytes(header.source, header.destination))))
	}, "TcpExtPAWSActive")
}

// overfullConnection takes the room that a connection has had until then.
func overfullConnection(t *testing.T, lab *Lab) map[string]int {
	listener, h := lab.beginHandshake(t, lab.Receiver.IPv4)
	h.sendACKs(t, 1)
	server := kerneltest.AcceptOn(t, listener)
	t.Cleanup(func() { unix.Close(server) })
	const got = 4
	for at := range uint32(got) {
		h.send(t, 1, h.data(at*segmentSize, segmentSize))
		h.awaitACK(t, (at+1)*segmentSize)
	}
	return h.loseSegments(t, got, func(while func()) {
		must(unix.SetsockoptInt(server, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
		while()
	})
}

// closedWindow sends a connection as much as it has room for, and then more. Meanwhile everything was
// read, since Linux 6.17 and later have another reason if not, but by a process that wants no more,
// for which the kernel does not open the window.
func closedWindow(t *testing.T, lab *Lab) int {
	listener := lab.listen(t, lab.Receiver.IPv4)
	must(unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10))
	lab.knowNeighbour(t, neighbour(lab.Receiver.IPv4))
	h := lab.beginHandshakeFrom(t, neighbour(lab.Receiver.IPv4), lab.Receiver.IPv4, nil)
	h.sendACKs(t, 1)
	sent, window := uint32(0), uint32(h.synACK.window)
	for window > 0 {
		size := min(window, 1400)
		h.send(t, 1, h.data(sent, int(size)))
		sent += size
		window = uint32(h.awaitACK(t, sent).window)
	}
	server := kerneltest.AcceptOn(t, listener)
	defer unix.Close(server)
	must(unix.Shutdown(server, unix.SHUT_RD))
	for read := 0; read < int(sent); {
		n, err := unix.Read(server, make([]byte, sent))
		must(err)
		read += n
	}
	h.send(t, 1, h.data(sent, 100)) // whose answer opens the window
	return 1
}

// awaitACK waits for an ACK of all that the client has sent.
func (h *handshake) awaitACK(t *testing.T, sent uint32) (last segment) {
	t.Helper()
	for last.ack != clientSequence+1+sent {
		last = h.receive(t)
	}
	return last
}

// data returns a segment with size bytes, before which the client has sent others.
func (h *handshake) data(before uint32, size int) segment {
	return segment{
		sequence: clientSequence + 1 + before, ack: h.synACK.sequence + 1, flags: flagACK, payload: strings.Repeat("x", size),
	}
}

// fullQueues sends SYNs to a listener whose accept queue is full, and whose queue of half-open
// connections counts as full, too: it may not send cookies, and has no room. Which of the queues
// the kernel blames depends on its release.
func fullQueues(t *testing.T, lab *Lab) map[string]int {
	const sent = 5
	listener := lab.listen(t, lab.Receiver.IPv4)
	lab.fillQueue(t, listener, lab.Receiver.IPv4)
	var grown map[string]int
	lab.withSysctl(t, "net/ipv4/tcp_syncookies", "0", func() {
		enough := func(grown map[string]int) bool { return grown["TcpExtListenDrops"] >= sent }
		header := lab.ip(protocolTCP)
		header.source = neighbour(header.destination)
		grown = lab.growth(t, enough, func() { lab.sendSYNsFrom(t, header, sent) }, "TcpExtListenDrops", "TcpExtListenOverflows", "TcpExtTCPReqQFullDrop")
	})
	return map[string]int{"TcpExtListenDrops": grown["TcpExtListenDrops"], overflows: grown["TcpExtListenOverflows"] + grown["TcpExtTCPReqQFullDrop"]}
}
