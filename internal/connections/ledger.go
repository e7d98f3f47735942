// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"maps"
	"slices"
	"time"

	"github.com/seed-7756021b/nettap/internal/life"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// snapshot is all that was read at one collection.
type snapshot struct {
	now       time.Time // before the rest was read
	tallies   map[bpfTallyKey]bpfTally
	members   map[uint64]*owner.Member // by the numbers in tallies, those that are known
	processes map[uint64]owner.Process // all that are known, by number
}

// hasEnded says that a process has, or has become another one, or is not known any more.
func (s *snapshot) hasEnded(number uint64) bool { return number != 0 && !s.processes[number].Alive }

// ledger keeps the series from one collection to the next. It is pure: all it knows comes
// in snapshots, and what is taken out of the kernel's map is told to it.
//
// A line adds up the tallies of its series: a process has several numbers if it has changed
// itself. It begins when the first of them does, and ends with the last: with its last value
// until a consumer has taken that, then without a value until a consumer has taken that, too.
type ledger struct {
	posted  time.Time // of the last snapshot
	turn    uint64    // how many snapshots there were
	entries map[bpfTallyKey]*entry
	lines   map[series]*line
	removed uint64 // events of the tallies that were taken out
}

// entry is what is known of a tally in the kernel's map.
type entry struct {
	series
	tally bpfTally
	moved uint64 // the turn in which it last counted something
}

// line is what is said of a series.
type line struct {
	life.Life
	removed bpfTally // of its entries that were taken out
}

func newLedger(start time.Time) *ledger {
	return &ledger{posted: start, entries: map[bpfTallyKey]*entry{}, lines: map[series]*line{}}
}

// enter takes in a snapshot.
func (l *ledger) enter(s *snapshot) {
	l.turn++
	for key, tally := range s.tallies {
		if key.Deed == bpfDeedDEED_END {
			tally = tally.settled()
		}
		if tally.Count == 0 {
			continue // it is about to be the first
		}
		e, known := l.entries[key]
		if !known {
			e = &entry{series: seriesOf(key, s.members[key.Number])}
			l.entries[key] = e
			l.feed(e.series)
		}
		if tally.Count != e.tally.Count {
			e.tally, e.moved = tally, l.turn
		}
	}
}

// feed notes that one more entry feeds a line. One that has ended, or whose last value has
// been delivered, begins anew: at the last snapshot there was nothing of it.
func (l *ledger) feed(s series) {
	of, known := l.lines[s]
	if !known || !of.Continues() {
		of = &line{Life: life.Life{Start: l.posted}}
		l.lines[s] = of
	}
	of.Feed()
}

// departing returns the tallies to be taken out of the kernel's map: of processes that have
// ended, and of whose connections nothing is told any more.
func (l *ledger) departing(s *snapshot) []bpfTallyKey {
	var leave []bpfTallyKey
	for key, e := range l.entries {
		if e.moved < l.turn && s.hasEnded(key.Number) {
			leave = append(leave, key)
		}
	}
	return leave
}

// remove notes that a tally was taken out of the kernel's map, which said last at the end.
func (l *ledger) remove(key bpfTallyKey, last bpfTally) {
	e := l.entries[key]
	delete(l.entries, key)
	if key.Deed == bpfDeedDEED_END {
		last = last.settled()
	}
	l.removed += last.Count
	of := l.lines[e.series]
	of.removed.add(last)
	of.Leave()
}

// numbers are those of the processes in the tallies.
func (l *ledger) numbers() map[uint64]bool {
	used := map[uint64]bool{}
	for key := range l.entries {
		used[key.Number] = true
	}
	return used
}

// aggregated is how many events are or were in a series.
func (l *ledger) aggregated() uint64 {
	sum := l.removed
	for _, e := range l.entries {
		sum += e.tally.Count
	}
	return sum
}

// post ends the turn and returns what there is to say, in an order that is always the same.
func (l *ledger) post(now time.Time) []point {
	sums := map[series]*bpfTally{}
	for _, e := range l.entries {
		if sums[e.series] == nil {
			sums[e.series] = &bpfTally{}
		}
		sums[e.series].add(e.tally)
	}
	points := make([]point, 0, len(l.lines))
	for _, of := range slices.SortedFunc(maps.Keys(l.lines), series.compare) {
		p := point{series: of, start: l.lines[of].Start}
		if p.ended = l.lines[of].Ended(); !p.ended {
			p.tally = l.lines[of].removed
			if sum := sums[of]; sum != nil {
				p.tally.add(*sum)
			}
		}
		points = append(points, p)
	}
	l.posted = now
	return points
}

// delivered notes that what was last posted has been taken.
func (l *ledger) delivered() { life.Deliver(l.lines) }
