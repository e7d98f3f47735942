package traffic

import (
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
)

// A process that executes its own program again, or changes in another way that nothing
// shows, has another number from then on. Its series are those of what it shows, so they
// go on: as long as any of its numbers does they say what all have moved, and what a
// number that departs has moved is inherited by one that stays.

// life is what goes on as one process, by its numbers.
type life struct {
	face    face
	process owner.Process // as the last number has it
	number  uint64        // the last one
	others  []uint64      // the rest; most have none
	entries []counted
}

// lives returns the processes that have moved something, one for all that shows the same.
func (l *ledger) lives(s *snapshot) []life {
	owned := byNumber(s.traffic)
	for key := range l.inherited {
		if _, isCounted := s.traffic[key]; !isCounted {
			owned[key.Number] = append(owned[key.Number], counted{bpfTrafficKey: key})
		}
	}
	lives := make([]life, 0, len(owned))
	index := make(map[face]int, len(owned))
	for number, entries := range owned {
		p, known := l.processOf(number, s)
		if !known {
			continue // it is booked in sheets
		}
		face := l.faceOf(p)
		i, another := index[face]
		if !another {
			index[face] = len(lives)
			lives = append(lives, life{face: face, process: p, number: number, entries: entries})
			continue
		}
		one := &lives[i]
		if number > one.number {
			one.process, one.number, number = p, number, one.number
		}
		one.others, one.entries = append(one.others, number), slices.Concat(one.entries, entries)
	}
	return lives
}

// beginLife returns when the series of a process began. If they are new, it notes it.
func (l *ledger) beginLife(one life, s *snapshot) uint64 {
	if start, known := l.starts[one.face]; known {
		return start
	}
	start := l.startOf(one.number, one.process)
	for _, number := range one.others {
		p, _ := l.processOf(number, s)
		start = min(start, l.startOf(number, p))
	}
	start = max(start, l.ended[one.face])
	l.starts[one.face] = start
	return start
}

// heirs returns with which number those go on of whom others depart: the last one.
func (l *ledger) heirs(s *snapshot, departing map[uint64]owner.Process) map[face]uint64 {
	if len(departing) == 0 {
		return nil
	}
	changed := make(map[instance]bool, len(departing))
	for _, p := range departing {
		changed[instanceOf(p.ID)] = true
	}
	heirs := make(map[face]uint64)
	enter := func(number uint64) {
		p, known := l.processOf(number, s)
		if _, departs := departing[number]; !known || departs || !changed[instanceOf(p.ID)] {
			return
		}
		face := l.faceOf(p)
		heirs[face] = max(heirs[face], number)
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

// inherit lets what departing numbers have moved go on with their heirs.
func (l *ledger) inherit(s *snapshot, departing map[uint64]owner.Process, heirs map[face]uint64) {
	if len(departing) == 0 {
		return
	}
	leave := func(key bpfTrafficKey) {
		p, departs := departing[key.Number]
		if !departs {
			return
		}
		moved := less(l.movedBy(counted{key, s.traffic[key]}), l.rowsBefore[key])
		delete(l.rowsBefore, key)
		delete(l.inherited, key)
		if heir, goesOn := heirs[l.faceOf(p)]; goesOn && moved != (bpfCount{}) {
			key.Number = heir
			l.inherited[key] = plus(l.inherited[key], moved)
		}
	}
	for key := range s.traffic {
		leave(key)
	}
	for key := range l.inherited { // an heir stays, so nothing is inherited twice
		leave(key)
	}
}

// movedBy is what has moved under a number, and under those from which it has inherited.
func (l *ledger) movedBy(entry counted) bpfCount {
	return plus(entry.bpfCount, l.inherited[entry.bpfTrafficKey])
}
