package drops

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-7756021b/nettap/internal/packet"
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
}

// drop is one counter's value, in packets since the start.
type drop struct {
	series
	packets   uint64
	exemplars []exemplar // since the last time
}

// exemplar is a packet of a socket whose application was at work on something.
type exemplar struct {
	context tracecontext.Context
	nanos   uint64 // CLOCK_BOOTTIME
}

// words turn the kernel's numbers into names.
type words struct {
	reasons   map[uint32]string // this kernel's own
	functions map[uint64]string // by location; missing is unknown
	classes   classes
}

// bySeries adds up the counts of each series, sorted so that the same drops
// always come out in the same order. A series without packets is left out.
func bySeries(counts map[bpfDropKey]uint64, exemplars map[bpfDropKey]exemplar, w words) []drop {
	sums := map[series]uint64{}
	for key, packets := range counts {
		if packets > 0 {
			sums[w.series(key)] += packets
		}
	}
	examples := map[series][]exemplar{}
	for key, e := range exemplars {
		examples[w.series(key)] = append(examples[w.series(key)], e)
	}
	drops := make([]drop, 0, len(sums))
	for _, s := range slices.SortedFunc(maps.Keys(sums), series.compare) {
		drops = append(drops, drop{s, sums[s], examples[s]})
	}
	return drops
}

func (w words) series(key bpfDropKey) series {
	s := series{
		function:      w.functions[key.Location],
		reason:        w.reason(key.Reason),
		interfaceName: text(key.Interface[:]),
	}
	if key.Transport != 0 {
		s.transport = packet.Transport(key.Transport)
	}
	if key.Type != 0 {
		s.networkType = packet.Type(key.Type)
	}
	s.class = w.classes.of(s.reason, s.function)
	return s
}

// reason names a number that this kernel's BTF does not name as "reason_7".
func (w words) reason(number uint32) string {
	if name, ok := ownReasons[number]; ok {
		return name
	}
	if name, ok := w.reasons[number]; ok {
		return name
	}
	return fmt.Sprintf("reason_%d", number)
}

func (s series) compare(other series) int {
	return cmp.Or(
		cmp.Compare(s.function, other.function),
		cmp.Compare(s.reason, other.reason),
		cmp.Compare(s.interfaceName, other.interfaceName),
		cmp.Compare(s.networkType, other.networkType),
		cmp.Compare(s.transport, other.transport),
	)
}

// text is the string in a zero-terminated field. An interface may be named by
// any bytes, but a string in OTLP is UTF-8.
func text(field []byte) string {
	before, _, _ := bytes.Cut(field, []byte{0})
	return strings.ToValidUTF8(string(before), "\uFFFD")
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

// variantFor names the program that fits a kfree_skb tracepoint with that many
// arguments.
func variantFor(arguments int) string {
	switch {
	case arguments <= 2:
		return "count_drop_bare"
	case arguments == 3:
		return "count_drop_reason"
	default:
		return "count_drop_socket"
	}
}
