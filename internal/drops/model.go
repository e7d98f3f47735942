// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"fmt"
	"time"

	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/packet"
	"github.com/seed-7756021b/nettap/internal/plain"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// Reasons that no kernel gives. Their numbers are beyond those of any subsystem.
const (
	reasonNotAvailable   = 0xffffffff - iota // the kernel gives no reasons (before 5.17)
	reasonListenOverflow                     // a listener's accept queue is full
	reasonNever                              // stands for a reason this kernel lacks
)

// ownReasons are the names of those that are reported.
var ownReasons = map[uint32]string{
	reasonNotAvailable:   "not_available",
	reasonListenOverflow: "nettap_listen_overflow",
}

// series is what one counter is told apart by. What is unknown is empty.
type series struct {
	function      string // the kernel's symbol
	reason        string
	class         class
	interfaceName string
	transport     string
	networkType   string
	reset         bool // of resets, not of drops: only the reason may be known
}

// loser is the process that lost the packets of a series, with what its series are told
// apart by besides. Its zero value is none: the series is the host's, of all packets.
type loser struct {
	*victim
	how       bpfVictim
	direction bpfDirection
}

// line is what one counter is told apart by.
type line struct {
	series
	loser
}

// drop is one line's value, in packets since its start.
type drop struct {
	series
	loser
	start     time.Time
	packets   uint64
	exemplars []exemplar // since the last time
	ended     bool       // it has no value any more
}

// exemplar is a packet of a socket whose application was at work on something.
type exemplar struct {
	context tracecontext.Context
	nanos   uint64 // CLOCK_BOOTTIME
}

// words turn the kernel's numbers into names.
type words struct {
	reasons   map[uint32]string // this kernel's own
	resets    map[uint32]string // for which it resets connections
	functions map[uint64]string // by location; missing is unknown
	meanings  meanings
	rules     []rule // which of the kernel's counters count what
}

// series returns what a key stands for, on an interface of this name.
func (w words) series(key bpfDropKey, interfaceName string) series {
	s := series{
		function:      w.functions[key.Location],
		reason:        w.reason(key.Reason),
		interfaceName: interfaceName,
	}
	if key.Transport != 0 {
		s.transport = packet.Transport(key.Transport)
	}
	if key.Type != 0 {
		s.networkType = packet.Type(key.Type)
	}
	s.class = w.meanings.of(s.reason, s.function)
	if key.Empty != 0 {
		s.class = w.meanings.of(s.reason, emptySegment)
	}
	return s
}

// dropper returns the function that drops, "" where the kernel names only its own means
// to: a compiler may put what tells of drops into a part of kfree_skb, whose caller is
// kfree_skb. Debian's 5.10 for arm64 is built so.
func dropper(function string) string {
	if function == "kfree_skb" {
		return ""
	}
	return function
}

// lines are all that a key's packets are in: the host's series, and that of v, who lost
// them, unless it is nil. A reset is in one, that of who sent or received it.
func (w words) lines(key bpfDropKey, interfaceName string, v *victim) []line {
	if key.Reset != 0 {
		return []line{{series{reason: w.resets[key.Reason], reset: true}, loser{v, 0, key.Direction}}}
	}
	all := []line{{series: w.series(key, interfaceName)}}
	if v == nil {
		return all
	}
	own := series{reason: all[0].reason, class: all[0].class, interfaceName: interfaceName}
	return append(all, line{own, loser{v, key.Victim, key.Direction}})
}

// numbered is how the name of a reason begins that this kernel's BTF does not name.
const numbered = "reason_"

// reason names a number that this kernel's BTF does not name as "reason_7".
func (w words) reason(number uint32) string {
	if name, ok := ownReasons[number]; ok {
		return name
	}
	if name, ok := w.reasons[number]; ok {
		return name
	}
	return fmt.Sprint(numbered, number)
}

func (s series) compare(other series) int {
	return cmp.Or(
		cmp.Compare(boolToInt(s.reset), boolToInt(other.reset)),
		cmp.Compare(s.function, other.function),
		cmp.Compare(s.reason, other.reason),
		cmp.Compare(s.interfaceName, other.interfaceName),
		cmp.Compare(s.networkType, other.networkType),
		cmp.Compare(s.transport, other.transport),
		cmp.Compare(s.class, other.class),
	)
}

// compare puts the host's lines first, and those of a process together.
func (l line) compare(other line) int {
	return cmp.Or(l.victim.Compare(other.victim), l.series.compare(other.series),
		cmp.Compare(l.how, other.how), cmp.Compare(l.direction, other.direction))
}

// nameOf returns the name of an interface, which may be any bytes.
func nameOf(entry interfaces.Entry) string { return plain.Text(process.Text(entry.Name[:])) }

// iface returns the key of the interface on which a packet was dropped; ok is false
// where that is unknown.
func (k bpfDropKey) iface() (key interfaces.Key, ok bool) {
	return interfaces.Key{Netns: k.Netns, Ifindex: k.Ifindex}, k.Ifindex != 0
}

// numbers are the reasons that the kernel side treats in a way of their own.
type numbers struct {
	consumed uint32
	noSocket uint32

	// What kfree_skb says of an ACK lost to a full accept queue: either the one,
	// from 6.15 on, or the other, which it also says of much else.
	overflow    uint32
	unspecified uint32
}

// numbersOf finds them in this kernel's reasons, which may be none.
func numbersOf(reasons map[uint32]string) numbers {
	n := numbers{consumed: reasonNever, noSocket: reasonNever, overflow: reasonNever, unspecified: reasonNotAvailable}
	for number, name := range reasons {
		switch name {
		case "consumed":
			n.consumed = number
		case "no_socket":
			n.noSocket = number
		case "tcp_listen_overflow":
			n.overflow = number
		case "not_specified":
			n.unspecified = number
		}
	}
	if n.overflow != reasonNever {
		n.unspecified = reasonNever
	}
	return n
}

// argumentsWithSocket is how many a kfree_skb tracepoint has at least that says to which
// socket a packet was on its way.
const argumentsWithSocket = 4

// variantFor names the program that fits a kfree_skb tracepoint with that many
// arguments, and whether it is known who owns a socket.
func variantFor(arguments int, owners bool) string {
	switch {
	case arguments <= 2 && !owners:
		return bpfProgCountDropBare
	case arguments <= 2:
		return bpfProgCountDropPlace
	case arguments < argumentsWithSocket:
		return bpfProgCountDropReason
	default:
		return bpfProgCountDropSocket
	}
}
