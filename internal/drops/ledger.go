// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/life"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// snapshot is everything that was read at one collection.
type snapshot struct {
	now        time.Time // before the rest was read
	detailed   map[bpfDropKey]uint64
	coarse     map[bpfDropKey]uint64 // packets for which there was no room among the detailed ones
	interfaces map[interfaces.Key]interfaces.Entry
	survey     interfaces.Survey
	exemplars  map[bpfDropKey]exemplar
	victims    map[uint64]*victim       // by the numbers in detailed, as far as they are known
	ended      map[uint64]owner.Process // processes that have ended, by number
	listened   map[uint64]bool          // numbers of processes that were the last to have a port

	counters map[string]uint64 // the kernel's own, read before the maps
	host     uint64            // the network namespace whose counters these are; 0 if not known
}

// ledger keeps the series from one collection to the next. It reads nothing itself: everything
// that it knows comes in snapshots, and it is told what was removed from the kernel's map.
//
// A line adds up the entries of several keys, for example of two interfaces with one name, or of
// two places in one function. It begins with the first of these entries and ends with the last.
// Its last value is then reported until a consumer has taken it, and after that a point without a
// value until a consumer has taken that. What a process lost is in two lines, its own and the
// host's.
type ledger struct {
	posted   time.Time // time of the last snapshot
	turn     uint64    // number of snapshots so far
	entries  map[source]*entry
	counters map[line]*counter
	removed  uint64 // packets of entries that were removed
	unnamed  uint64 // the part of these whose process was not known any more

	covered map[string]uint64 // packets that a counter of the kernel counts as well
}

// source is a key in one of the kernel's maps.
type source struct {
	bpfDropKey
	coarse bool
}

// entry is what is known of a source. It belongs to the same lines as long as it exists.
type entry struct {
	lines    []line // the host's line first
	packets  uint64
	moved    uint64   // the last turn in which it counted something
	counters []string // the kernel's counters that count its packets as well
}

// counter is the state of a line.
type counter struct {
	life.Life
	removed uint64 // packets of its entries that were removed
}

func newLedger(start time.Time) *ledger {
	return &ledger{posted: start, entries: map[source]*entry{}, counters: map[line]*counter{}, covered: map[string]uint64{}}
}

// copy returns a ledger with the same content, which shares nothing with l that either of them
// changes.
func (l *ledger) copy() *ledger {
	c := *l
	c.entries = make(map[source]*entry, len(l.entries))
	for from, e := range l.entries {
		other := *e
		c.entries[from] = &other
	}
	c.counters = make(map[line]*counter, len(l.counters))
	for s, of := range l.counters {
		other := *of
		c.counters[s] = &other
	}
	c.covered = maps.Clone(l.covered)
	return &c
}

// enter enters a snapshot.
func (l *ledger) enter(s *snapshot, w words) {
	l.turn++
	for key, packets := range s.detailed {
		l.count(source{key, false}, packets, s, w)
	}
	for key, packets := range s.coarse {
		l.count(source{key, true}, packets, s, w)
	}
}

func (l *ledger) count(from source, packets uint64, s *snapshot, w words) {
	if packets == 0 {
		return // the kernel side is about to count the first packet
	}
	e, known := l.entries[from]
	if !known {
		name, _ := s.nameOn(from.bpfDropKey)
		e = &entry{}
		l.add(from, e, w.lines(from.bpfDropKey, name, s.victims[from.Number])...)
		e.counters = countersOf(w.rules, e.lines[0].series, s.isInHost(from.bpfDropKey))
	}
	if packets != e.packets {
		l.cover(e, packets)
		e.packets, e.moved = packets, l.turn
	}
}

// cover records how many packets an entry has now.
func (l *ledger) cover(e *entry, packets uint64) {
	for _, counter := range e.counters {
		l.covered[counter] += packets - e.packets
	}
}

// isInHost reports whether the packets of a key are or may be in the network namespace whose
// counters are read.
func (s *snapshot) isInHost(key bpfDropKey) bool {
	return key.Netns == 0 || s.host == 0 || key.Netns == s.host
}

// nameOn returns the name that the interface of a key has now, if it is known.
func (s *snapshot) nameOn(key bpfDropKey) (name string, ok bool) {
	iface, known := key.iface()
	if !known {
		return "", true
	}
	found, ok := s.interfaces[iface]
	return nameOf(found), ok
}

func (l *ledger) add(from source, e *entry, lines ...line) {
	e.lines = lines
	l.entries[from] = e
	for _, line := range lines {
		l.feed(line)
	}
}

// feed records that a line has one more entry. If the line has ended, or its last value was
// delivered, it begins anew: there were no packets for it at the last snapshot.
func (l *ledger) feed(to line) {
	c, known := l.counters[to]
	if !known || !c.Continues() {
		c = &counter{Life: life.Life{Start: l.posted}}
		l.counters[to] = c
	}
	c.Feed()
}

// departing returns the keys to remove from the kernel's map: those of interfaces that are gone or
// have another name, and those of processes that have ended and lose nothing any more. If there
// are more than limit keys, it also returns those that have counted nothing for the longest time.
// The same holds for the keys of each network namespace other than the host's, with the limit
// each.
func (l *ledger) departing(s *snapshot, limit, each int) []bpfDropKey {
	var leave, silent, ended []bpfDropKey
	for from, e := range l.entries {
		switch {
		case from.coarse:
		case s.isRenamed(from.bpfDropKey, e) || s.isGone(from.bpfDropKey):
			leave = append(leave, from.bpfDropKey)
		case e.moved < l.turn && s.hasEnded(from.bpfDropKey):
			ended = append(ended, from.bpfDropKey)
		case e.moved < l.turn:
			silent = append(silent, from.bpfDropKey)
		}
	}
	for _, key := range ended {
		l.goOnWithout(key)
	}
	leave = append(leave, ended...)
	held := l.held()
	for _, key := range leave {
		held[key.Netns]--
	}
	excess := 0
	for _, n := range held {
		excess += n
	}
	excess -= limit
	slices.SortFunc(silent, func(a, b bpfDropKey) int {
		return cmp.Or(cmp.Compare(l.entries[source{a, false}].moved, l.entries[source{b, false}].moved), a.compare(b))
	})
	for _, key := range silent {
		if excess > 0 || held[key.Netns] > each && s.isForeign(key.Netns) {
			leave = append(leave, key)
			held[key.Netns]--
			excess--
		}
	}
	return leave
}

// goOnWithout lets the host's line of a key continue without its process. Resets of a process are
// only in its own line.
func (l *ledger) goOnWithout(key bpfDropKey) {
	e := l.entries[source{key, false}]
	if key.Reset != 0 {
		return
	}
	key.Number, key.Direction, key.Victim = 0, 0, 0
	rest := source{key, false}
	if _, known := l.entries[rest]; !known {
		l.add(rest, &entry{counters: e.counters}, e.lines[0])
	}
	l.entries[rest].moved = max(l.entries[rest].moved, e.moved)
}

// held returns how many keys of each network namespace there are at most in the kernel's map of
// detailed ones.
func (l *ledger) held() map[uint64]int {
	held := map[uint64]int{}
	for from := range l.entries {
		if !from.coarse {
			held[from.Netns]++
		}
	}
	return held
}

// numbers returns the numbers of the processes in the keys.
func (l *ledger) numbers() map[uint64]bool {
	used := map[uint64]bool{}
	for from := range l.entries {
		used[from.Number] = true
	}
	return used
}

func (s *snapshot) isRenamed(key bpfDropKey, e *entry) bool {
	name, known := s.nameOn(key)
	return known && name != e.lines[0].interfaceName
}

// hasEnded reports whether the process of a key has ended. A process that was the last to have a
// port is an exception, because it still loses what arrives for that.
func (s *snapshot) hasEnded(key bpfDropKey) bool {
	_, ended := s.ended[key.Number]
	return ended && !(key.Victim == bpfVictimVICTIM_LAST_LISTENER && s.listened[key.Number])
}

// isForeign reports whether a network namespace is not the host's.
func (s *snapshot) isForeign(netns uint64) bool {
	return s.survey.Host != 0 && netns != 0 && netns != s.survey.Host
}

func (s *snapshot) isGone(key bpfDropKey) bool {
	iface, known := key.iface()
	found, ok := s.interfaces[iface]
	return known && ok && s.survey.Gone(iface, found)
}

// remove records that a key was removed from the kernel's map, with this many packets.
func (l *ledger) remove(key bpfDropKey, packets uint64) {
	from := source{key, false}
	e := l.entries[from]
	delete(l.entries, from)
	l.cover(e, packets)
	l.removed += packets
	if e.isUnnamed(key) {
		l.unnamed += packets
	}
	for _, line := range e.lines {
		c := l.counters[line]
		c.removed += packets
		c.Leave()
	}
}

// isUnnamed reports whether the process of a key was already forgotten when the key was first met.
func (e *entry) isUnnamed(key bpfDropKey) bool {
	if key.Reset != 0 {
		return key.Number != 0 && e.lines[0].victim == nil
	}
	return key.Number != 0 && len(e.lines) == 1
}

// nameless returns how many packets are or were only in the host's series because their process
// was not known any more.
func (l *ledger) nameless() uint64 {
	sum := l.unnamed
	for from, e := range l.entries {
		if e.isUnnamed(from.bpfDropKey) {
			sum += e.packets
		}
	}
	return sum
}

// forgettable returns the interfaces that are gone and have no keys left.
func (l *ledger) forgettable(s *snapshot) []interfaces.Key {
	used := map[interfaces.Key]bool{}
	for from := range l.entries {
		if iface, known := from.iface(); known {
			used[iface] = true
		}
	}
	var gone []interfaces.Key
	for key, found := range s.interfaces {
		if !used[key] && s.survey.Gone(key, found) {
			gone = append(gone, key)
		}
	}
	return gone
}

// aggregated returns how many packets are or were in a series.
func (l *ledger) aggregated() uint64 {
	sum := l.removed
	for _, e := range l.entries {
		sum += e.packets
	}
	return sum
}

// post ends the turn and returns what is to be reported, in an order that is always the same for
// the same drops.
func (l *ledger) post(s *snapshot, exemplars map[line][]exemplar) []drop {
	sums := map[line]uint64{}
	for _, e := range l.entries {
		for _, line := range e.lines {
			sums[line] += e.packets
		}
	}
	drops := make([]drop, 0, len(l.counters))
	for _, of := range slices.SortedFunc(maps.Keys(l.counters), line.compare) {
		d := drop{series: of.series, loser: of.loser, start: l.counters[of].Start}
		if l.counters[of].Ended() {
			d.ended = true
		} else {
			d.packets, d.exemplars = l.counters[of].removed+sums[of], exemplars[of]
		}
		drops = append(drops, d)
	}
	l.posted = s.now
	return drops
}

// examples groups exemplars by the lines of their keys, which must not have been removed yet.
func (l *ledger) examples(s *snapshot) map[line][]exemplar {
	sorted := map[line][]exemplar{}
	for key, e := range s.exemplars {
		of, known := l.entries[source{key, false}]
		if !known {
			continue
		}
		for _, line := range of.lines {
			sorted[line] = append(sorted[line], e)
		}
	}
	return sorted
}

// delivered records that the last post was taken.
func (l *ledger) delivered() { life.Deliver(l.counters) }

func (k bpfDropKey) compare(other bpfDropKey) int {
	return cmp.Or(
		cmp.Compare(k.Netns, other.Netns), cmp.Compare(k.Ifindex, other.Ifindex),
		cmp.Compare(k.Location, other.Location), cmp.Compare(k.Reason, other.Reason),
		cmp.Compare(k.Type, other.Type), cmp.Compare(k.Transport, other.Transport), cmp.Compare(k.Empty, other.Empty), cmp.Compare(k.Reset, other.Reset),
		cmp.Compare(k.Number, other.Number), cmp.Compare(k.Direction, other.Direction), cmp.Compare(k.Victim, other.Victim),
	)
}
