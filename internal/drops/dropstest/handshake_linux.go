// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// handshake is the client's side of a handshake with the listener. It is made by hand, from an
// address that no one has: otherwise the sender's kernel would answer as well.
type handshake struct {
	lab    *Lab
	header ipHeader
	source uint16 // port
	synACK segment

	answers int    // a socket that receives all packets that arrive at the sender
	options []byte // of all segments that do not have their own
}

const clientSequence = 1000

// beginHandshake opens a listener and begins a handshake with it.
func (l *Lab) beginHandshake(t *testing.T, address netip.Addr) (listener int, h *handshake) {
	t.Helper()
	return l.beginHandshakeWith(t, address, nil)
}

// beginHandshakeWith does so with TCP options.
func (l *Lab) beginHandshakeWith(t *testing.T, address netip.Addr, options []byte) (listener int, h *handshake) {
	t.Helper()
	listener = l.listen(t, address)
	l.knowNeighbour(t, neighbour(address))
	return listener, l.beginHandshakeFrom(t, neighbour(address), address, options)
}

// beginHandshakeFrom does so from an address for which the receiver has a route, with a listener
// that there is.
func (l *Lab) beginHandshakeFrom(t *testing.T, source, address netip.Addr, options []byte) *handshake {
	t.Helper()
	l.handshakes++ // a port of an earlier one may be in TIME-WAIT
	h := &handshake{lab: l, source: 1111 + 10*l.handshakes, options: options, header: ipHeader{
		protocol: protocolTCP, ttl: 64, source: source, destination: address,
	}}
	h.answers = l.openAnswers(t, ethertypeOf(address))
	h.sendSYNs(t, 1)
	h.synACK = h.receive(t)
	if h.synACK.flags != flagSYN|flagACK {
		t.Fatalf("the listener answers a SYN with %+v", h.synACK)
	}
	return h
}

// receive waits for a segment to the client. Servers of earlier handshakes, whose clients are gone,
// go on sending theirs to the same address.
func (h *handshake) receive(t *testing.T) segment {
	t.Helper()
	return receive(t, h.answers, h.header.source, func(s segment) bool { return s.destination == h.source })
}

func (h *handshake) sendSYNs(t *testing.T, n int) {
	t.Helper()
	h.send(t, n, segment{sequence: clientSequence, flags: flagSYN})
}

// sendACKs sends the last segment of the handshake n times.
func (h *handshake) sendACKs(t *testing.T, n int) {
	t.Helper()
	h.send(t, n, segment{sequence: clientSequence + 1, ack: h.synACK.sequence + 1, flags: flagACK})
}

func (h *handshake) send(t *testing.T, n int, s segment) {
	t.Helper()
	s.source, s.destination = h.source, listenerPort
	if s.options == nil {
		s.options = h.options
	}
	packet := h.header.packet(s.bytes(h.header.source, h.header.destination))
	h.lab.send(t, n, h.lab.frame(ethertypeOf(h.header.source), packet))
}

// knowNeighbour tells the receiver that an address belongs to the sender.
func (l *Lab) knowNeighbour(t *testing.T, address netip.Addr) {
	t.Helper()
	l.inReceiver(t, func() { knowNeighbour(t, l.Receiver.Index, address, l.senderMAC) })
}

func knowNeighbour(t *testing.T, index int, address netip.Addr, mac net.HardwareAddr) {
	t.Helper()
	err := netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: net.IP(address.AsSlice()), HardwareAddr: mac})
	if err != nil {
		t.Fatalf("add neighbour: %v", err)
	}
}

// openAnswers opens a socket that receives all packets that arrive at the sender.
func (l *Lab) openAnswers(t *testing.T, ethertype uint16) (fd int) {
	t.Helper()
	l.inSender(t, func() {
		var err error
		protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, ethertype))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, int(protocol)); err != nil {
			t.Fatalf("open packet socket: %v", err)
		}
		t.Cleanup(func() { unix.Close(fd) })
	})
	return fd
}

// receive waits for a segment to an address that is wanted.
func receive(t *testing.T, fd int, to netip.Addr, wanted func(segment) bool) segment {
	t.Helper()
	packet := make([]byte, 2048)
	for deadline := time.Now().Add(kerneltest.Patience); time.Now().Before(deadline); {
		kerneltest.AwaitInput(t, fd)
		n, _, err := unix.Recvfrom(fd, packet, 0)
		if err != nil {
			t.Fatalf("wait for the listener's answer: %v", err)
		}
		if s, ok := parseSegment(packet[:n], to); ok && wanted(s) {
			return s
		}
	}
	t.Fatal("the listener's answer is not among what arrived")
	return segment{}
}
