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
	process owner.Process // as the last number has it
	number  uint64        // the last one
	others  []uint64      // the rest; most have none
	keys    []bpfTrafficKey
}

// lives returns the processes that have moved something, by what they show.
func (l *ledger) lives(s *snapshot) map[face]life {
	owned := byNumber(s.traffic)
	for key := range l.inherited {
		if _, counted := s.traffic[key]; !counted {
			owned[key.Number] = append(owned[key.Number], key)
		}
	}
	lives := make(map[face]life, len(owned))
	for number, keys := range owned {
		p, known := l.processOf(number, s)
		if !known {
			continue // it is booked in sheets
		}
		face := l.faceOf(p)
		one, another := lives[face]
		switch {
		case !another:
			one = life{process: p, number: number, keys: keys}
		case number > one.number:
			one = life{process: p, number: number, others: append(one.others, one.number), keys: slices.Concat(one.keys, keys)}
		default:
			one.others, one.keys = append(one.others, number), slices.Concat(one.keys, keys)
		}
		lives[face] = one
	}
	return lives
}

// beginLife notes when the series of a process began, if they are new.
func (l *ledger) beginLife(face face, one life, s *snapshot) {
	if _, known := l.starts[face]; known {
		return
	}
	start := l.startOf(one.number, one.process)
	for _, number := range one.others {
		p, _ := l.processOf(number, s)
		start = min(start, l.startOf(number, p))
	}
	l.starts[face] = max(start, l.ended[face])
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
	leave := func(key bpfTrafficKey) {
		p, departs := departing[key.Number]
		if !departs {
			return
		}
		moved := less(l.movedBy(key, s), l.rowsBefore[key])
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
func (l *ledger) movedBy(key bpfTrafficKey, s *snapshot) bpfCount {
	return plus(s.traffic[key], l.inherited[key])
}
