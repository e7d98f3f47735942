// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// snapshot is all that was read at one collection.
type snapshot struct {
	now        time.Time // before the rest was read
	detailed   map[bpfDropKey]uint64
	coarse     map[bpfDropKey]uint64 // those that found the place for detailed ones taken
	interfaces map[interfaces.Key]interfaces.Entry
	survey     interfaces.Survey
	exemplars  map[bpfDropKey]exemplar
	victims    map[uint64]*victim       // by the numbers in detailed, those that are known
	ended      map[uint64]owner.Process // processes that have, by number
	listened   map[uint64]bool          // those that were the last to have a port

	counters map[string]uint64 // the kernel's own, read before the maps
	host     uint64            // the network namespace whose counters these are; 0 is not known
}

// ledger keeps the series from one collection to the next. It is pure: all it knows
// comes in snapshots, and what is taken out of the kernel's map is told to it.
//
// A line adds up the entries of several keys: of two interfaces of one name, of two
// places in one function. It begins when the first of them does, and ends with the
// last: with its last value until a consumer has taken that, then without a value
// until a consumer has taken that, too. What a process lost is in two lines, its own and
// the host's.
type ledger struct {
	posted   time.Time // of the last snapshot
	turn     uint64    // how many snapshots there were
	entries  map[source]*entry
	counters map[line]*counter
	removed  uint64 // packets of the entries that were taken out
	unnamed  uint64 // of those, packets of a process that was not known any more

	covered map[string]uint64 // packets that a counter of the kernel's counts, too
}

// source is a key in one of the kernel's maps.
type source struct {
	bpfDropKey
	coarse bool
}

// entry is what is known of a source. It belongs to the same lines as long as it is there.
type entry struct {
	lines    []line // the host's first
	packets  uint64
	moved    uint64   // the turn in which it last counted something
	counters []string // of the kernel's, that count its packets, too
}

// counter is what a line says.
type counter struct {
	start   time.Time
	removed uint64 // packets of its entries that were taken out
	entries int
	phase   phase
}

// phase is where a series is in its life.
type phase int

const (
	alive   phase = iota
	leaving       // nothing feeds it any more; its last value is to be delivered
	ending        // that has been; its end is to be delivered
)

func newLedger(start time.Time) *ledger {
	return &ledger{posted: start, entries: map[source]*entry{}, counters: map[line]*counter{}, covered: map[string]uint64{}}
}

// copy returns a ledger that knows what l knows, and shares with it nothing that either
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

// enter takes in a snapshot.
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
		return // it is about to be the first
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

// cover notes that an entry has as many packets now.
func (l *ledger) cover(e *entry, packets uint64) {
	for _, counter := range e.counters {
		l.covered[counter] += packets - e.packets
	}
}

// isInHost says that the packets of a key are or may be in the network namespace whose
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

// feed notes that one more entry feeds a line. One that has ended, or whose last
// value has been delivered, begins anew: at the last snapshot there was nothing of it.
func (l *ledger) feed(to line) {
	c, known := l.counters[to]
	if !known || c.phase == ending {
		c = &counter{start: l.posted}
		l.counters[to] = c
	}
	c.phase = alive
	c.entries++
}

// departing returns the keys to be taken out of the kernel's map: of interfaces that
// are gone or have another name; of processes that have ended and lose nothing any more;
// and when there are more than limit, of the others that have counted nothing lately
// those that have been silent longest. The same holds for the keys of each network namespace
// but the host's, of which there may be each.
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

// goOnWithout lets the host's line of a key go on without its process. Resets of a process
// are in no other than its own.
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

// held is how many keys of each network namespace there are at most in the kernel's map of
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

// numbers are those of the processes in the keys.
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

// hasEnded says that the process of a key has. One that was the last to have a port goes on
// to lose what comes for that.
func (s *snapshot) hasEnded(key bpfDropKey) bool {
	_, ended := s.ended[key.Number]
	return ended && !(key.Victim == bpfVictimVICTIM_LAST_LISTENER && s.listened[key.Number])
}

// isForeign says that a network namespace is not the host's.
func (s *snapshot) isForeign(netns uint64) bool {
	return s.survey.Host != 0 && netns != 0 && netns != s.survey.Host
}

func (s *snapshot) isGone(key bpfDropKey) bool {
	iface, known := key.iface()
	found, ok := s.interfaces[iface]
	return known && ok && s.survey.Gone(iface, found)
}

// remove notes that a key was taken out of the kernel's map, with this many packets.
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
		if c.entries--; c.entries == 0 {
			c.phase = leaving
		}
	}
}

// isUnnamed says that the process of a key was not known any more when it was met.
func (e *entry) isUnnamed(key bpfDropKey) bool {
	if key.Reset != 0 {
		return key.Number != 0 && e.lines[0].victim == nil
	}
	return key.Number != 0 && len(e.lines) == 1
}

// nameless is how many packets are or were in the host's series alone, since their process
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

// forgettable returns the interfaces that are gone and of which no key is left.
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

// aggregated is how many packets are or were in a series.
func (l *ledger) aggregated() uint64 {
	sum := l.removed
	for _, e := range l.entries {
		sum += e.packets
	}
	return sum
}

// post ends the turn and returns what there is to say, sorted so that the same drops
// always come out in the same order.
func (l *ledger) post(s *snapshot, exemplars map[line][]exemplar) []drop {
	sums := map[line]uint64{}
	for _, e := range l.entries {
		for _, line := range e.lines {
			sums[line] += e.packets
		}
	}
	drops := make([]drop, 0, len(l.counters))
	for _, of := range slices.SortedFunc(maps.Keys(l.counters), line.compare) {
		d := drop{series: of.series, loser: of.loser, start: l.counters[of].start}
		if l.counters[of].phase == ending {
			d.ended = true
		} else {
			d.packets, d.exemplars = l.counters[of].removed+sums[of], exemplars[of]
		}
		drops = append(drops, d)
	}
	l.posted = s.now
	return drops
}

// examples sorts exemplars by the lines of their keys, which must not have been removed yet.
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

// delivered notes that what was last posted has been taken.
func (l *ledger) delivered() {
	for s, c := range l.counters {
		switch c.phase {
		case leaving:
			c.phase = ending
		case ending:
			delete(l.counters, s)
		}
	}
}

func (k bpfDropKey) compare(other bpfDropKey) int {
	return cmp.Or(
		cmp.Compare(k.Netns, other.Netns), cmp.Compare(k.Ifindex, other.Ifindex),
		cmp.Compare(k.Location, other.Location), cmp.Compare(k.Reason, other.Reason),
		cmp.Compare(k.Type, other.Type), cmp.Compare(k.Transport, other.Transport), cmp.Compare(k.Empty, other.Empty), cmp.Compare(k.Reset, other.Reset),
		cmp.Compare(k.Number, other.Number), cmp.Compare(k.Direction, other.Direction), cmp.Compare(k.Victim, other.Victim),
	)
}
