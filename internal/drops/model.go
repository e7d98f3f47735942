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

// Reasons that no kernel gives. Their numbers are higher than those of any subsystem.
const (
	reasonNotAvailable   = 0xffffffff - iota // the kernel gives no reasons (before 5.17)
	reasonListenOverflow                     // a listener's accept queue is full
	reasonNever                              // in place of a reason that this kernel lacks
)

// ownReasons are the names of those of them that are reported.
var ownReasons = map[uint32]string{
	reasonNotAvailable:   "not_available",
	reasonListenOverflow: "nettap_listen_overflow",
}

// series is what identifies a counter. A field that is not known is empty.
type series struct {
	function      string // the kernel's symbol
	reason        string
	class         class
	interfaceName string
	transport     string
	networkType   string
	reset         bool // of resets, not of drops; only the reason may be known
}

// loser is the process that lost the packets of a series, with what else identifies its series.
// The zero value means no process: the series is the host's, of all packets.
type loser struct {
	*victim
	how       bpfVictim
	direction bpfDirection
}

// line identifies a counter of the host or of a process.
type line struct {
	series
	loser
}

// drop is the value of one line, in packets since its start.
type drop struct {
	series
	loser
	start     time.Time
	packets   uint64
	exemplars []exemplar // since the previous report
	ended     bool       // it no longer has a value
}

// exemplar is a packet of a socket whose application was working on a span.
type exemplar struct {
	context tracecontext.Context
	nanos   uint64 // CLOCK_BOOTTIME
}

// words has the names for the kernel's numbers.
type words struct {
	reasons   map[uint32]string // those of this kernel
	resets    map[uint32]string // the reasons for which it resets connections
	functions map[uint64]string // by location; missing if not known
	meanings  meanings
	rules     []rule // which drops each of the kernel's counters counts
}

// series returns the series of a key, on an interface with this name.
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

// dropper returns the function that drops, or "" if the kernel only names the function that
// reports: a compiler may put the report into a part of kfree_skb, whose caller is kfree_skb.
// Debian's 5.10 for arm64 is built like this.
func dropper(function string) string {
	if function == "kfree_skb" {
		return ""
	}
	return function
}

// lines returns the lines that count the packets of a key: the host's, and, unless v is nil, that
// of v, the process that lost them. A reset is only in the line of the process that sent or
// received it, if there is one.
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

// numbered is the prefix of the name of a reason that this kernel's BTF does not name.
const numbered = "reason_"

// reason returns the name of a reason. If this kernel's BTF does not name it, that is "reason_7".
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

// compare orders lines so that the host's come first, and those of one process are together.
func (l line) compare(other line) int {
	return cmp.Or(l.victim.Compare(other.victim), l.series.compare(other.series),
		cmp.Compare(l.how, other.how), cmp.Compare(l.direction, other.direction))
}

// nameOf returns the name of an interface, which may be any bytes.
func nameOf(entry interfaces.Entry) string { return plain.Text(process.Text(entry.Name[:])) }

// iface returns the key of the interface on which a packet was dropped; ok is false if that is not
// known.
func (k bpfDropKey) iface() (key interfaces.Key, ok bool) {
	return interfaces.Key{Netns: k.Netns, Ifindex: k.Ifindex}, k.Ifindex != 0
}

// numbers are the reasons that the kernel side treats specially.
type numbers struct {
	consumed uint32
	noSocket uint32

	// overflow and unspecified are the reasons that kfree_skb gives for an ACK lost to a full
	// accept queue: from 6.15 on the former, and before the latter, which it also gives for
	// much else.
	overflow    uint32
	unspecified uint32
}

// numbersOf finds them among this kernel's reasons, of which there may be none.
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

// argumentsWithSocket is the minimum number of arguments of a kfree_skb tracepoint that tells for
// which socket a packet was.
const argumentsWithSocket = 4

// variantFor returns the name of the program for a kfree_skb tracepoint with this many arguments.
// owners tells whether the owners of sockets are known.
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
