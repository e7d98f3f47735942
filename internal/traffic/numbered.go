// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"cmp"
	"maps"
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// memory is how long a process that has ended is remembered, in ns. Its last sockets may still
// send as long as TCP retransmits.
const memory = 15 * 60 * 1e9

// maxDeparted bounds how many are remembered. What the sockets of others send is on the account
// unowned.
const maxDeparted = 16384

// numbered is what the ledger knows of a process by the number that the kernel side gives it. When
// the process executes a program or changes its user it gets another number.
//
//	     posted            departs             after a while, or there are too many
//	new --------> live -------------> departed -----------> forgotten: it is not in the ledger
//	                                   |    ^
//	       one of its sockets moves    |    | it moves nothing any more
//	       something                   v    |
//	                                   heard
type numbered struct {
	met       bool           // it was among the processes of a snapshot
	posted    bool           // it was in the last snapshot: it is live or heard
	packets   uint64         // how many it had moved by then
	departure *departure     // nil if it is live
	series    *processSeries // of its process, while that is alive; nil if this is not known
	place     int            // among the numbers that have entries in this post, counted from 1; 0 if it has none
}

// departure is the last departure of a number.
type departure struct {
	process owner.Process
	at      uint64 // ns since boot
}

// departing returns the numbers of processes that have ended and whose sockets have moved nothing
// since the last post. Before the final post it returns those of all processes that have ended.
func (l *ledger) departing(s *snapshot) map[uint64]owner.Process {
	if !l.anyHasDeparted() && allAlive(s.processes) {
		return nil // the usual case
	}
	packets := make(map[uint64]uint64) // of processes that have ended
	for key, c := range s.traffic {
		if p := s.processes[key.Number]; !p.Alive {
			packets[key.Number] += c.Packets
		}
	}
	gone := make(map[uint64]owner.Process)
	for number, p := range s.processes {
		if !p.Alive && (l.isAtRest(number, packets[number]) || l.final) {
			gone[number] = p
		}
	}
	for number, n := range l.numbers {
		if n.departure == nil {
			continue
		}
		if n.posted && n.packets == packets[number] || l.final && packets[number] != 0 {
			gone[number] = n.departure.process // it was remembered, and has moved something again
		}
	}
	return gone
}

func (l *ledger) anyHasDeparted() bool {
	for _, n := range l.numbers {
		if n.departure != nil {
			return true
		}
	}
	return false
}

func allAlive(processes map[uint64]owner.Process) bool {
	for _, p := range processes {
		if !p.Alive {
			return false
		}
	}
	return true
}

// isAtRest reports whether a number that has moved this many packets had moved all of them by the
// last post.
func (l *ledger) isAtRest(number, packets uint64) bool {
	n, known := l.numbers[number]
	if !known || !n.posted {
		return packets == 0
	}
	return n.packets == packets
}

// processOf returns the process that has a number, or that had it and is remembered.
func (l *ledger) processOf(number uint64, s *snapshot) (owner.Process, bool) {
	if p, ok := s.processes[number]; ok {
		return p, true
	}
	if n, known := l.numbers[number]; known && n.departure != nil {
		return n.departure.process, true
	}
	return owner.Process{}, false
}

// meetNumbers enters the numbers of the snapshot's processes, and finds the lowest number under which
// each process is or was known.
func (l *ledger) meetNumbers(s *snapshot) {
	for _, n := range l.numbers {
		n.posted, n.packets, n.place = false, 0, 0
	}
	for number, p := range s.processes {
		n := l.numberOf(number)
		if !n.met {
			l.learnFirst(number, instanceOf(p.ID))
		}
		if n.met, n.posted = true, true; !p.Alive {
			n.series = nil // its resource may be forgotten
		}
	}
}

func (l *ledger) learnFirst(number uint64, self instance) {
	if first, known := l.firsts[self]; !known || number < first {
		l.firsts[self] = number
	}
}

// remember updates what is known of each number, and forgets what is too old.
func (l *ledger) remember(s *snapshot, departing map[uint64]owner.Process) {
	for number, p := range departing {
		*l.numberOf(number) = numbered{departure: &departure{process: p, at: s.now}}
	}
	forgets := len(departing) != 0 // otherwise all former processes are still known
	for number, n := range l.numbers {
		if !n.posted && (n.departure == nil || s.now-n.departure.at >= memory) {
			delete(l.numbers, number)
			forgets = forgets || n.departure != nil
		}
	}
	if l.forgetOldest() || forgets {
		l.forgetInstances(s)
	}
}

func (l *ledger) numberOf(number uint64) *numbered {
	n, known := l.numbers[number]
	if !known {
		n = new(numbered)
		l.numbers[number] = n
	}
	return n
}

// forgetOldest keeps the number of departed processes within its bound, and reports whether it
// forgot any.
func (l *ledger) forgetOldest() bool {
	departed := 0
	for _, n := range l.numbers {
		if n.departure != nil {
			departed++
		}
	}
	if departed <= maxDeparted {
		return false
	}
	silent := make([]uint64, 0, departed)
	for number, n := range l.numbers {
		if n.departure != nil && !n.posted {
			silent = append(silent, number)
		}
	}
	slices.SortFunc(silent, func(a, b uint64) int {
		return cmp.Or(cmp.Compare(l.numbers[a].departure.at, l.numbers[b].departure.at), cmp.Compare(a, b))
	})
	for _, number := range silent[:min(departed-maxDeparted, len(silent))] {
		delete(l.numbers, number)
	}
	return len(silent) != 0
}

// forgetInstances forgets the processes all of whose numbers are forgotten.
func (l *ledger) forgetInstances(s *snapshot) {
	known := make(map[instance]bool, len(s.processes))
	for _, p := range s.processes {
		known[instanceOf(p.ID)] = true
	}
	for _, n := range l.numbers {
		if n.departure != nil {
			known[instanceOf(n.departure.process.ID)] = true
		}
	}
	maps.DeleteFunc(l.firsts, func(self instance, _ uint64) bool { return !known[self] })
	maps.DeleteFunc(l.series, func(of identity, series *processSeries) bool {
		if known[of.instance] {
			return false
		}
		series.ended = 0
		return series.start == 0
	})
}

func instanceOf(id process.ID) instance {
	return instance{startNanos: id.StartNanos, pid: id.PID}
}
