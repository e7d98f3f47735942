// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
)

// counted is an entry of the kernel's map.
type counted struct {
	bpfTrafficKey
	bpfCount
}

// owned is the entries of one number.
type owned struct {
	*numbered
	number  uint64
	process owner.Process
	known   bool // the process is
	size    int
	entries []counted
}

// workspace is memory that each post uses again. Nothing that a post returns or keeps refers to it.
type workspace struct {
	all, sorted []counted
	places      []int // of the numbers of all, in numbers
	numbers     []owned
	order       []uint64
	byPID       []*owned
	lives       []life
}

// byNumber counts what each number has moved, and returns the entries of each, by the PID of its process.
func (l *ledger) byNumber(s *snapshot) []*owned {
	w := l.workspace
	w.all, w.places, w.numbers = w.all[:0], w.places[:0], w.numbers[:0]
	for key, c := range s.traffic {
		n := l.numberOf(key.Number)
		n.posted, n.packets = true, n.packets+c.Packets
		w.enter(n, counted{key, c})
	}
	for key, row := range l.rows {
		if _, isCounted := s.traffic[key]; !isCounted && row.inherited != (bpfCount{}) {
			w.enter(l.numberOf(key.Number), counted{bpfTrafficKey: key})
		}
	}
	w.group()
	w.order, w.byPID = w.order[:0], w.byPID[:0]
	for i := range w.numbers {
		one := &w.numbers[i]
		one.process, one.known = l.processOf(one.number, s)
		w.order = append(w.order, uint64(one.process.ID.PID)<<32|uint64(i))
	}
	slices.Sort(w.order)
	for _, place := range w.order {
		w.byPID = append(w.byPID, &w.numbers[uint32(place)])
	}
	return w.byPID
}

// enter adds an entry of a number.
func (w *workspace) enter(n *numbered, entry counted) {
	if n.place == 0 {
		w.numbers = append(w.numbers, owned{numbered: n, number: entry.Number})
		n.place = len(w.numbers)
	}
	w.numbers[n.place-1].size++
	w.all, w.places = append(w.all, entry), append(w.places, n.place-1)
}

// group gives each number its entries.
func (w *workspace) group() {
	w.sorted = slices.Grow(w.sorted[:0], len(w.all))
	free := w.sorted[:len(w.all)]
	for i := range w.numbers {
		one := &w.numbers[i]
		one.entries, free = free[:0:one.size], free[one.size:]
	}
	for i, place := range w.places {
		one := &w.numbers[place]
		one.entries = append(one.entries, w.all[i])
	}
}
