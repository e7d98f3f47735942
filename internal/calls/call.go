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

// call is a call that a thread made, with the functions it went through.
type call struct {
	process     process.ID
	seen        process.Seen
	context     tracecontext.Context // of the application
	startNanos  uint64               // CLOCK_BOOTTIME
	duration    time.Duration
	runnable    time.Duration                    // off the CPU, though nothing was waited for
	blocked     [bpfWaitWAIT_KINDS]time.Duration // off the CPU, by what was waited for
	idle        time.Duration                    // of these, waiting for work
	result      int64
	threadID    uint32
	threadName  string
	syscall     int // number; negative is none
	fd          int // negative is none
	local, peer netip.AddrPort
	path        socketPath
	netnsInode  uint32 // 0 is unknown
	family      uint16
	protocol    uint16
	lostNodes   uint32 // that the tree has no room for
	missedExits uint16
	rootOnly    bool // the functions inside were not followed
	expected    bool // it failed, which was no news
	reason      bpfReason
	nodes       []node // the root first, each after the one it is in; a wait has none
	wait        wait
}

// wait is what of a record is about a wait that began in one call and ended in another.
type wait struct {
	kind        bpfSocketWait // none: the record is of a call
	flags       bpfWaitFlag
	peer, local time.Duration // that it waited for the peer, and for the program itself, as flags say
}

// socketPath is the name of one end of a Unix socket. An abstract name begins with @, as in /proc/net/unix.
type socketPath struct {
	end  bpfPathEnd // none: it is not known, or there is none
	name string
}

// kindNames is the attribute nettap.wait.kind.
var kindNames = map[bpfSocketWait]string{
	bpfSocketWaitSOCKET_WAIT_CONNECT: "connect",
	bpfSocketWaitSOCKET_WAIT_RECEIVE: "receive",
	bpfSocketWaitSOCKET_WAIT_SEND:    "send",
}

// node is one function of a call, a tracepoint in it, or time off the CPU.
type node struct {
	kind     kind
	function int           // index in the table of functions; not for offCPU
	parent   int           // index in the call's nodes; -1 is the root
	start    time.Duration // from the start of the call
	duration time.Duration
	missed   bool // its end was not seen
	result   int32
	runnable time.Duration // of offCPU: how long it could have run, up to 2.1 s
	wait     bpfWait       // of offCPU
}

type kind uint8

const (
	ofFunction   kind = iota
	ofTracepoint      // it has no duration
	offCPU
)

// keptNames is the attribute nettap.call.kept.
var keptNames = map[bpfReason]string{
	bpfReasonREASON_FAILED:  "failed",
	bpfReasonREASON_SLOW:    "slow",
	bpfReasonREASON_SAMPLED: "sampled",
}

// waitNames is the attribute nettap.call.blocked.on.
var waitNames = [bpfWaitWAIT_KINDS]string{
	bpfWaitWAIT_OTHER:         "other",
	bpfWaitWAIT_RECEIVE_QUEUE: "receive_queue",
	bpfWaitWAIT_SEND_BUFFER:   "send_buffer",
	bpfWaitWAIT_LOCK:          "lock",
	bpfWaitWAIT_ACCEPT_QUEUE:  "accept_queue",
	bpfWaitWAIT_HANDSHAKE:     "handshake",
}

// byProcess groups calls by the process that made them, each group in the given
// order, the groups in the order of their first.
func byProcess(calls []call) [][]call {
	return process.Group(calls, func(c call) process.ID { return c.process })
}

// onCPU is how long a call ran.
func (c call) onCPU() time.Duration {
	rest := c.duration - min(c.runnable, c.duration)
	return rest - min(c.blockedTime(), rest)
}

// blockedTime is how long a call waited for something.
func (c call) blockedTime() time.Duration {
	var sum time.Duration
	for _, d := range c.blocked {
		sum += min(d, math.MaxInt64-sum)
	}
	return sum
}

// blockedOn returns what a call waited for longest; "" is nothing.
func (c call) blockedOn() string {
	most := slices.Index(c.blocked[:], slices.Max(c.blocked[:]))
	if c.blocked[most] == 0 {
		return ""
	}
	return waitNames[most]
}

// networkType is the attribute network.type; "" is none.
func (c call) networkType() string {
	switch {
	case c.local.Addr().Is4(), c.peer.Addr().Is4(), c.family == familyIPv4:
		return "ipv4"
	case c.family == familyIPv6:
		return "ipv6"
	}
	return ""
}

// networkTransport is the attribute network.transport; "" is unknown.
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

// Source: include/linux/socket.h, include/uapi/linux/in.h.
const (
	familyUnix = 1
	familyIPv4 = 2
	familyIPv6 = 10

	protocolTCP   = 6
	protocolMPTCP = 262
)
