// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/seed-7756021b/nettap/internal/closings"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/plain"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// accept is a TCP connection that a process accepted.
type accept struct {
	process     process.ID
	seen        process.Seen
	nanos       uint64 // CLOCK_BOOTTIME
	threadID    uint32
	local, peer netip.AddrPort
	netnsInode  uint32
	queued      time.Duration // from the end of the handshake to the accept; negative if unknown
	queueLength int           // connections that waited after this one; negative if unknown
	queueLimit  int           // negative if unknown
	sequence    uint32        // the first that we sent; 0 if the ends of connections are not reported

	context tracecontext.Context // the first on the connection
	verdict string               // of the policy; empty if there is none
}

// The verdicts of a policy.
const (
	expected   = "expected"
	unexpected = "unexpected"
)

// maxHeld is how many accepts wait for a trace context at a time: about 4 MB.
const maxHeld = 10_000

// bind gives each accept the first context on its connection. held are the accepts that have none
// yet and wait. If more than maxHeld would wait, the oldest no longer do.
func bind(accepts []accept, first func(tracecontext.Connection, uint64) (tracecontext.Context, bool),
	waits func(accept) bool,
) (ready, held []accept) {
	for i, a := range accepts {
		context, found := first(tracecontext.Connection{Local: a.local, Peer: a.peer, NetnsInode: a.netnsInode}, a.nanos)
		a.context = context
		if !found && waits(a) && len(accepts)-i <= maxHeld {
			held = append(held, a)
		} else {
			ready = append(ready, a)
		}
	}
	return ready, held
}

// decode decodes a record of the kernel's ring. A record of another size is an error.
//
// Kernel side: struct accept in bpf/lib/accepts/accept.h.
func decode(record []byte) (accept, error) {
	var raw bpfAccept
	if size := int(unsafe.Sizeof(raw)); len(record) != size {
		return accept{}, fmt.Errorf("decode accept: the record has %d bytes, not %d", len(record), size)
	}
	kernel.CopyRecord(&raw, record)
	return accept{
		process: process.ID{
			StartNanos: raw.Process.StartNs,
			PID:        raw.Process.Pid,
			ExecID:     raw.Process.ExecId,
			UserID:     raw.Process.Uid,
			RealUserID: raw.Process.RealUid,
		},
		seen: process.Seen{
			FirstNanos: raw.Seen.FirstNs,
			CgroupID:   raw.Seen.CgroupId,
			Comm:       process.Text(raw.Seen.Comm[:]),
			Executable: process.Text(raw.Seen.Executable[:]),
		},
		nanos:       raw.TimeNs,
		threadID:    raw.ThreadId,
		local:       addrPort(raw.LocalAddress, raw.LocalPort),
		peer:        addrPort(raw.PeerAddress, raw.PeerPort),
		netnsInode:  raw.NetnsInode,
		queued:      time.Duration(raw.QueueNs),
		queueLength: int(raw.QueueLength),
		queueLimit:  int(raw.QueueLimit),
		sequence:    raw.FirstSequence,
	}, nil
}

func addrPort(address [16]uint8, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(address).Unmap(), port)
}

// byProcess groups accepts by their process. A group keeps the given order, and the groups are in
// the order of their first accepts.
func byProcess(accepts []accept) [][]accept {
	return process.Group(accepts, func(a accept) process.ID { return a.process })
}

// line describes an accept in one line for people:
//
//	sshd[3165] uid 0 accepted 10.64.0.227:51514 on 10.64.0.5:22
//	nginx[71] uid 33 accepted [2001:db8::7]:40022 on [2001:db8::1]:443
//	nc[4711] uid 0 accepted 192.0.2.99:40022 on 10.64.0.5:22, unexpected
//
// The user is the real one. A process may choose any name, so characters that cannot be printed
// are shown as U+FFFD.
func (a accept) line() string {
	line := fmt.Sprintf("%s[%d] uid %d accepted %s on %s", plain.Text(a.seen.Comm), a.process.PID, a.process.RealUserID, a.peer, a.local)
	if a.verdict == unexpected {
		line += ", unexpected"
	}
	return line
}

// id is the identity that the record of the connection's end has as well.
func (a accept) id() closings.ID {
	return closings.ID{Local: a.local, Peer: a.peer, NetnsInode: a.netnsInode, FirstSequence: a.sequence}
}

// established returns when the handshake of the connection ended, on CLOCK_BOOTTIME, or if that is unknown when it
// was accepted.
func (a accept) established() uint64 { return a.nanos - uint64(max(a.queued, 0)) }

// networkType returns the value of the attribute network.type.
func networkType(address netip.Addr) string {
	if address.Is4() {
		return "ipv4"
	}
	return "ipv6"
}
