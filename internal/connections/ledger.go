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
	now       time.Time // a time before the rest was read
	tallies   map[bpfTallyKey]bpfTally
	entries   int                      // of the kernel's map of tallies
	places    map[uint64]uint32        // where processes have their usual tallies, by number
	members   map[uint64]*owner.Member // the processes of tallies that are known, by number
	processes map[uint64]owner.Process // all processes that are known, by number
}

// add adds what was read of a tally. A process may have a part of it in its place, and an older one in the
// kernel's map.
func (s *snapshot) add(key bpfTallyKey, tally bpfTally) {
	tally.add(s.tallies[key])
	s.tallies[key] = tally
}

// hasEnded reports whether the process with a number has ended, has become another process by an exec,
// or is no longer known.
func (s *snapshot) hasEnded(number uint64) bool { return number != 0 && !s.processes[number].Alive }

// ledger keeps the series from one collection to the next. It needs no kernel: it is passed snapshots,
// and the last values of tallies that were deleted from the kernel's map.
//
// A line is the sum of the tallies of its series. A process has several numbers, and so several
// tallies of the same kind, if it has executed a program or changed its user. [life.Life] says when a
// line begins and ends.
type ledger struct {
	posted  time.Time // the time of the last snapshot
	turn    uint64    // how many snapshots there were
	entries map[bpfTallyKey]*entry
	lines   map[series]*line
	removed uint64 // the number of events in tallies that were removed
}

// entry is the state of a tally in the kernel's map.
type entry struct {
	series
	tally bpfTally
	moved uint64 // the turn in which it last changed
}

// line is the state of a series.
type line struct {
	life.Life
	removed bpfTally // the sum of its tallies that were removed
}

func newLedger(start time.Time) *ledger {
	return &ledger{posted: start, entries: map[bpfTallyKey]*entry{}, lines: map[series]*line{}}
}

// enter records a snapshot.
func (l *ledger) enter(s *snapshot) {
	l.turn++
	for key, tally := range s.tallies {
		if key.Deed == bpfDeedDEED_END {
			tally = tally.settled()
		}
		if tally.Count == 0 {
			continue // the program has added the tally, and has not counted in it yet
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

// feed records that one more tally belongs to a line. If the last value of the line was delivered, a new
// one begins at the time of the last snapshot, which did not have it.
func (l *ledger) feed(s series) {
	of, known := l.lines[s]
	if !known || !of.Continues() {
		of = &line{Life: life.Life{Start: l.posted}}
		l.lines[s] = of
	}
	of.Feed()
}

// departing returns the tallies that are to be removed from the kernel's maps: all of a process that has
// ended, if none of them has changed since the last snapshot. The kernel may still retransmit for a
// process that has ended.
func (l *ledger) departing(s *snapshot) []bpfTallyKey {
	moves := map[uint64]bool{}
	for key, e := range l.entries {
		if e.moved == l.turn {
			moves[key.Number] = true
		}
	}
	var leave []bpfTallyKey
	for key := range l.entries {
		if !moves[key.Number] && s.hasEnded(key.Number) {
			leave = append(leave, key)
		}
	}
	return leave
}

// remove records that a tally was removed from the kernel's map, and its last value.
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

// numbers returns the numbers of the processes that have tallies.
func (l *ledger) numbers() map[uint64]bool {
	used := map[uint64]bool{}
	for key := range l.entries {
		used[key.Number] = true
	}
	return used
}

// aggregated returns how many events have been added to series.
func (l *ledger) aggregated() uint64 {
	sum := l.removed
	for _, e := range l.entries {
		sum += e.tally.Count
	}
	return sum
}

// post ends the turn and returns a point of each series, sorted by [series.compare].
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

// delivered records that a consumer has taken what was last posted.
func (l *ledger) delivered() { life.Deliver(l.lines) }
