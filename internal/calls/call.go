// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-7756021b/nettap/internal/packet"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// call is a call that a thread made, with the functions that it went through. The record of a wait is
// one, too.
type call struct {
	process     process.ID
	seen        process.Seen
	context     tracecontext.Context // the application's
	startNanos  uint64               // CLOCK_BOOTTIME
	duration    time.Duration
	runnable    time.Duration                    // time off the CPU in which the thread could have run
	blocked     [bpfWaitWAIT_KINDS]time.Duration // time off the CPU, by what the thread waited for
	idle        time.Duration                    // the part of these in which it waited for work
	result      int64
	threadID    uint32
	threadName  string
	syscall     int // the number; negative: there is none
	fd          int // negative: there is none
	local, peer netip.AddrPort
	path        socketPath
	netnsInode  uint32 // 0: unknown
	family      uint16
	protocol    uint16
	lostNodes   uint32 // nodes for which the record has no room
	missedExits uint16
	rootOnly    bool // the functions inside were not followed
	expected    bool // it failed with an error that is expected of such a call
	reason      bpfReason
	stack       []uint64 // return addresses of the wait that made it slow, innermost first; empty: there was none
	nodes       []node   // the root comes first, and each node after its parent; a wait has none
	wait        wait
}

// wait has the fields of a record that only waits have. A wait begins in one call and ends in another.
type wait struct {
	kind        bpfSocketWait // 0: the record is of a call
	flags       bpfWaitFlag
	peer, local time.Duration // how long the program waited for the peer, and for itself; flags say which is known
}

// socketPath is the name of one end of a Unix socket. An abstract name begins with @, as in /proc/net/unix.
type socketPath struct {
	end  bpfPathEnd // PATH_OF_NONE: the name is unknown, or there is none
	name string
}

// kindNames has the values of the attribute nettap.wait.kind.
var kindNames = map[bpfSocketWait]string{
	bpfSocketWaitSOCKET_WAIT_CONNECT: "connect",
	bpfSocketWaitSOCKET_WAIT_RECEIVE: "receive",
	bpfSocketWaitSOCKET_WAIT_SEND:    "send",
}

// node is one function of a call, a tracepoint in it, or time off the CPU.
type node struct {
	kind     kind
	function int           // index in the table of functions; not for offCPU
	parent   int           // index in the call's nodes; -1: this is the root
	start    time.Duration // from the start of the call
	duration time.Duration
	missed   bool // its end was not seen
	result   int32
	runnable time.Duration // for offCPU: how long the thread could have run, up to 2.1 s
	wait     bpfWait       // for offCPU: what the thread waited for
}

type kind uint8

const (
	ofFunction   kind = iota
	ofTracepoint      // it has no duration and becomes an event
	offCPU
)

// keptNames has the values of the attribute nettap.call.kept.
var keptNames = map[bpfReason]string{
	bpfReasonREASON_FAILED:  "failed",
	bpfReasonREASON_SLOW:    "slow",
	bpfReasonREASON_SAMPLED: "sampled",
}

// waitNames has the values of the attribute nettap.call.blocked.on.
var waitNames = [bpfWaitWAIT_KINDS]string{
	bpfWaitWAIT_OTHER:         "other",
	bpfWaitWAIT_RECEIVE_QUEUE: "receive_queue",
	bpfWaitWAIT_SEND_BUFFER:   "send_buffer",
	bpfWaitWAIT_LOCK:          "lock",
	bpfWaitWAIT_ACCEPT_QUEUE:  "accept_queue",
	bpfWaitWAIT_HANDSHAKE:     "handshake",
}

// byProcess groups calls by the process that made them. The calls of a group keep their order, and
// the groups are in the order of their first calls.
func byProcess(calls []call) [][]call {
	return process.Group(calls, func(c call) process.ID { return c.process })
}

// onCPU returns how long a call ran.
func (c call) onCPU() time.Duration {
	rest := c.duration - min(c.runnable, c.duration)
	return rest - min(c.blockedTime(), rest)
}

// blockedTime returns how long a call waited for something.
func (c call) blockedTime() time.Duration {
	var sum time.Duration
	for _, d := range c.blocked {
		sum += min(d, math.MaxInt64-sum)
	}
	return sum
}

// blockedOn returns what a call waited for longest, or "" if it did not wait.
func (c call) blockedOn() string {
	most := slices.Index(c.blocked[:], slices.Max(c.blocked[:]))
	if c.blocked[most] == 0 {
		return ""
	}
	return waitNames[most]
}

// networkType returns the attribute network.type, or "" for other families.
func (c call) networkType() string {
	switch {
	case c.local.Addr().Is4(), c.peer.Addr().Is4(), c.family == familyIPv4:
		return "ipv4"
	case c.family == familyIPv6:
		return "ipv6"
	}
	return ""
}

// networkTransport returns the attribute network.transport, or "" if it is unknown.
func (c call) networkTransport() string {
	switch {
	case c.family == familyUnix:
		return "unix"
	case c.family != familyIPv4 && c.family != familyIPv6:
		return ""
	case c.protocol == protocolMPTCP:
		return packet.Transport(protocolTCP)
	case c.protocol > math.MaxUint8:
		return ""
	}
	return packet.Transport(uint8(c.protocol))
}

// The kernel's numbers of address families and protocols.
//
// Source: include/linux/socket.h, include/uapi/linux/in.h.
const (
	familyUnix = 1
	familyIPv4 = 2
	familyIPv6 = 10

	protocolTCP   = 6
	protocolMPTCP = 262
)
