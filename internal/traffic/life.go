// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
)

// A process that executes its own program again, or changes in another way that its
// attributes do not show, has another number from then on. Its series depend on the
// attributes alone, so they go on: as long as one of its numbers lives, they report what all
// of its numbers have moved, and a number that stays inherits what a departing one has moved.

// life is all numbers that share the series of one process.
type life struct {
	identity identity
	process  *owner.Process // as the last number describes it
	number   uint64         // the last one
	others   []uint64       // the rest; most have none
	entries  []counted
	series   *processSeries
}

// lives returns the processes that have moved something: one for all numbers with the same
// attributes.
func (l *ledger) lives(all []*owned) []life {
	lives := l.workspace.lives[:0]
	for _, o := range all {
		if !o.known {
			continue // it is booked in bookings
		}
		series, number := l.seriesOf(o), o.number
		if series.turn != l.turn {
			series.turn, series.place = l.turn, len(lives)
			lives = append(lives, life{identity: series.of, process: &o.process, number: number, entries: o.entries, series: series})
			continue
		}
		one := &lives[series.place]
		if number > one.number {
			one.process, one.number, number = &o.process, number, one.number
		}
		one.others, one.entries = append(one.others, number), slices.Concat(one.entries, o.entries)
	}
	l.workspace.lives = lives
	return lives
}

// processSeries are the series of a process as long as its attributes stay the same. They
// begin when it first moves something and end with the last of its numbers. If one of its
// sockets moves something later, they begin again after that end.
type processSeries struct {
	of    identity
	start uint64                       // ns since boot; 0: there are none now
	ended uint64                       // when they last did, likewise
	begun map[interfaceIdentity]uint64 // when the series of an interface began again, likewise, see anew.go

	turn  uint64 // the last post that found the process among those that have moved something
	place int    // where it was among them
}

// seriesOf returns the series of a process, which may have none yet. While a process is alive its
// identity stays the same, and is not asked for again.
func (l *ledger) seriesOf(o *owned) *processSeries {
	if o.series != nil && o.process.Alive {
		return o.series
	}
	of := l.identityOf(o.process)
	series, met := l.series[of]
	if !met {
		series = &processSeries{of: of}
		l.series[of] = series
	}
	if o.series = nil; o.process.Alive {
		o.series = series
	}
	return series
}

// rowState is what the ledger knows of an entry of the kernel's map.
type rowState struct {
	inherited bpfCount // what other numbers had moved, whose series this one continues
	before    bpfCount // what had moved before its series began again
	turned    bool     // its series began again
}

// of returns what a number has moved, and the numbers from which it has inherited.
func (r rowState) of(c bpfCount) bpfCount { return plus(c, r.inherited) }

// beginSeries begins the series of processes that have none yet.
func (l *ledger) beginSeries(lives []life, s *snapshot) {
	for i := range lives {
		one := &lives[i]
		if series := one.series; series.start == 0 {
			series.start = max(l.startOf(one, s), series.ended)
		}
	}
}

// startOf returns when the first of a process's numbers began.
func (l *ledger) startOf(one *life, s *snapshot) uint64 {
	start := l.startOfNumber(one.number, *one.process)
	for _, number := range one.others {
		p, _ := l.processOf(number, s)
		start = min(start, l.startOfNumber(number, p))
	}
	return start
}

// startOfNumber returns when a number began. That is the start of the receiver or of the
// process, whichever is later; after an exec or a change of user, when the kernel side first
// met the process with its new attributes; and if its series have ended, when it moves
// something again.
func (l *ledger) startOfNumber(number uint64, p owner.Process) uint64 {
	if n, known := l.numbers[number]; known && n.departure != nil {
		return n.departure.at
	}
	if first, known := l.firsts[instanceOf(p.ID)]; known && first != number {
		return max(l.start, p.Seen.FirstNanos)
	}
	return max(l.start, p.ID.StartNanos)
}

// said is what processes moved. leaving is the part that is reported for the last time. The
// rest is staying, which only the final post needs.
type said struct{ present, staying, leaving []usage }

// use computes what each process moved.
func (l *ledger) use(lives []life, departing map[uint64]owner.Process, heirs map[identity]uint64, ends map[interfaceIdentity]bool) said {
	looks := l.looks()
	var all said
	present, free := make([]usage, 0, len(lives)), make([]row, len(l.workspace.all))
	for i := range lives {
		one := &lives[i]
		before := len(present)
		present = l.addUsages(present, one, looks, &free)
		usages := present[before:]
		if one.leaves(departing, heirs) {
			all.leaving = appendCopies(all.leaving, usages)
			continue
		}
		last, others := parted(usages, l.shownBy(one, ends))
		all.leaving = appendCopies(all.leaving, last)
		if l.final {
			all.staying = append(all.staying, others...)
		}
	}
	sortUsages(all.leaving) // they may be reported again, in this order
	if len(present) != 0 {
		all.present = present
	}
	return all
}

// appendCopies appends usages that are kept for longer than the others, whose rows theirs would hold
// in memory.
func appendCopies(to, usages []usage) []usage {
	for _, u := range usages {
		u.rows = slices.Clone(u.rows)
		to = append(to, u)
	}
	return to
}

// leaves says whether all numbers of a process depart.
func (one *life) leaves(departing map[uint64]owner.Process, heirs map[identity]uint64) bool {
	_, departs := departing[one.number]
	_, goesOn := heirs[one.identity]
	return departs && !goesOn
}

// endSeries ends the series of processes that leave, and lets the series of interfaces with
// these identities begin again.
func (l *ledger) endSeries(lives []life, departing map[uint64]owner.Process, heirs map[identity]uint64, ends map[interfaceIdentity]bool, now uint64) {
	for i := range lives {
		one := &lives[i]
		if one.leaves(departing, heirs) {
			*one.series = processSeries{of: one.identity, ended: max(now, one.series.start+1)}
			continue
		}
		l.turnRows(one, l.shownBy(one, ends), now)
	}
}

// heirs returns for each departing number the one that continues its series: the last one of
// the process.
func (l *ledger) heirs(s *snapshot, departing map[uint64]owner.Process) map[identity]uint64 {
	if len(departing) == 0 {
		return nil
	}
	changed := make(map[instance]bool, len(departing))
	for _, p := range departing {
		changed[instanceOf(p.ID)] = true
	}
	heirs := make(map[identity]uint64)
	enter := func(number uint64) {
		p, known := l.processOf(number, s)
		if _, departs := departing[number]; !known || departs || !changed[instanceOf(p.ID)] {
			return
		}
		identity := l.identityOf(p)
		heirs[identity] = max(heirs[identity], number)
	}
	for number, p := range s.processes {
		if p.Alive {
			enter(number)
		}
	}
	for key := range s.traffic {
		enter(key.Number)
	}
	return heirs
}

// inherit adds what departing numbers have moved to their heirs.
func (l *ledger) inherit(s *snapshot, departing map[uint64]owner.Process, heirs map[identity]uint64) {
	if len(departing) == 0 {
		return
	}
	leave := func(key bpfTrafficKey) {
		p, departs := departing[key.Number]
		if !departs {
			return
		}
		row := l.rows[key]
		moved := less(row.of(s.traffic[key]), row.before)
		delete(l.rows, key)
		if heir, goesOn := heirs[l.identityOf(p)]; goesOn && moved != (bpfCount{}) {
			key.Number = heir
			row := l.rows[key]
			row.inherited = row.of(moved)
			l.rows[key] = row
		}
	}
	for key := range s.traffic {
		leave(key)
	}
	for key := range l.rows { // an heir stays, so nothing is inherited twice
		leave(key)
	}
}
