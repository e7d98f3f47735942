// SPDX-License-Identifier: Apache-2.0

package closings

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"
	"unsafe"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/process"
)

// ID identifies a connection by what its socket tells about it as long as it exists.
type ID struct {
	Local, Peer   netip.AddrPort
	NetnsInode    uint32
	FirstSequence uint32 // our first sequence number
}

// String returns 16 hexadecimal digits.
func (id ID) String() string {
	h := fnv.New64a()
	var number [8]byte
	for _, n := range []uint32{id.NetnsInode, id.FirstSequence, uint32(id.Local.Port()), uint32(id.Peer.Port())} {
		binary.BigEndian.PutUint32(number[:], n)
		h.Write(number[:])
	}
	for _, address := range []netip.Addr{id.Local.Addr(), id.Peer.Addr()} {
		bytes := address.As16()
		h.Write(bytes[:])
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// Closing is a connection that ended.
type Closing struct {
	ID
	Incoming    bool       // the peer connected to us
	Process     process.ID // the process that connected; none if the connection is incoming
	Seen        process.Seen
	Established uint64 // CLOCK_BOOTTIME; 0 if the connection is incoming
	Closed      uint64 // CLOCK_BOOTTIME

	// which side closed it first: "local" or "peer"; empty if neither did
	ClosedBy                          string
	Error                             uint32 // errno of the socket; 0 if there is none
	BytesSent, BytesReceived          uint64 // payload; each byte is counted once
	SegmentsSent, SegmentsReceived    uint32
	Retransmits                       uint32
	SmoothedRoundTrip, LeastRoundTrip time.Duration // 0 if unknown
}

// The sides that may close a connection first.
const (
	Local = "local"
	Peer  = "peer"
)

// decode reads a record of the kernel's ring.
//
// Kernel side: struct closing in bpf/closings.bpf.c.
func decode(record []byte) (Closing, error) {
	var raw bpfClosing
	all, incoming := int(unsafe.Sizeof(raw)), int(unsafe.Offsetof(raw.Connection))
	if len(record) != all && len(record) != incoming {
		return Closing{}, fmt.Errorf("decode closing: the record has %d bytes, not %d or %d", len(record), all, incoming)
	}
	kernel.CopyRecord(&raw, record)
	from := &raw.Connection
	return Closing{
		ID: ID{
			Local:      netip.AddrPortFrom(netip.AddrFrom16(raw.LocalAddress).Unmap(), raw.LocalPort),
			Peer:       netip.AddrPortFrom(netip.AddrFrom16(raw.PeerAddress).Unmap(), raw.PeerPort),
			NetnsInode: raw.NetnsInode, FirstSequence: raw.FirstSequence,
		},
		Incoming: len(record) == incoming,
		Process: process.ID{
			StartNanos: from.Process.StartNs, PID: from.Process.Pid, ExecID: from.Process.ExecId,
			UserID: from.Process.Uid, RealUserID: from.Process.RealUid,
		},
		Seen: process.Seen{
			FirstNanos: from.Seen.FirstNs, CgroupID: from.Seen.CgroupId,
			Comm: process.Text(from.Seen.Comm[:]), Executable: process.Text(from.Seen.Executable[:]),
		},
		Established: established(from), Closed: raw.ClosedNs,
		ClosedBy: closedBy(&raw), Error: uint32(max(raw.Error, 0)),
		BytesSent: raw.BytesSent, BytesReceived: raw.BytesReceived,
		SegmentsSent: raw.SegmentsSent, SegmentsReceived: raw.SegmentsReceived, Retransmits: raw.Retransmits,
		SmoothedRoundTrip: time.Duration(raw.SmoothedRttUs) * time.Microsecond, LeastRoundTrip: leastRoundTrip(raw.LeastRttUs),
	}, nil
}

// established returns when a connection was established that a local process began. Of two sockets that connect to
// each other at the same time this is not seen, and it is the time of the connect.
func established(c *bpfConnection) uint64 {
	if c.EstablishedNs == 0 {
		return c.Seen.FirstNs
	}
	return c.EstablishedNs
}

// leastRoundTrip returns 0 if none was measured.
func leastRoundTrip(micros uint32) time.Duration {
	if micros == ^uint32(0) {
		return 0
	}
	return time.Duration(micros) * time.Microsecond
}

// Errors of a socket that a reset of the peer, or an administrator, sets.
const (
	brokenPipe = 32
	reset      = 104
	aborted    = 103 // by ss --kill and similar tools
)

// The states that a socket of TCP has only after its own side has closed, and only after the peer has.
//
// Source: include/net/tcp_states.h.
const (
	finWait1  = 4
	finWait2  = 5
	closing   = 11
	closeWait = 8
	lastAck   = 9
)

// closedBy returns which side closed first, by the state that the connection had at last. A reset
// without a FIN before it is the peer's if the socket has its error, and ours if the socket has no
// error. With any other error the kernel gave up.
func closedBy(raw *bpfClosing) string {
	switch state := raw.LastState; {
	case state == finWait1 || state == finWait2 || state == closing:
		return Local
	case state == closeWait || state == lastAck:
		return Peer
	case raw.Error == reset || raw.Error == brokenPipe:
		return Peer
	case raw.Error == 0 || raw.Error == aborted:
		return Local
	}
	return ""
}
