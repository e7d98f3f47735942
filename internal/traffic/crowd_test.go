// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// crowd is a machine whose processes come and go, and the state of a consumer that sometimes refuses a
// report.
type crowd struct {
	t          *testing.T
	random     *rand.Rand
	ledger     *ledger
	now        uint64 // s since boot
	last       uint64 // number given to a process
	processes  map[uint64]owner.Process
	traffic    map[bpfTrafficKey]bpfCount
	moved      map[instance]uint64
	series     map[string]*known
	unanswered bool
}

// known is a series as a consumer has it.
type known struct {
	instance
	start, bytes uint64
	before       uint64 // bytes, until it began anew
	ended        bool
}

// TestSeriesOfAnyLives requires, for random lives of processes and random refusals, that no series continues after its
// end, that each series that stops has an end, and that everything that a process moved is in its
// series.
func TestSeriesOfAnyLives(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint("of seed ", seed), func(t *testing.T) {
			w := &crowd{
				t: t, random: rand.New(rand.NewPCG(seed, 0)), ledger: opened(counter{}), now: 10,
				processes: map[uint64]owner.Process{}, traffic: map[bpfTrafficKey]bpfCount{},
				moved: map[instance]uint64{}, series: map[string]*known{},
			}
			for range 60 {
				for range w.random.IntN(4) {
					w.happen()
				}
				w.collect(w.random.IntN(3) == 0)
			}
			for number, p := range w.processes {
				p.Alive = false
				w.processes[number] = p
			}
			for range 4 {
				w.collect(false)
			}
			w.judge()
		})
	}
}

// happen makes a random event.
func (w *crowd) happen() {
	number := w.random.Uint64N(w.last+1) + 1
	p, there := w.processes[number]
	switch w.random.IntN(6) {
	case 0:
		w.enter(owner.Process{ID: process.ID{PID: uint32(w.last + 1), StartNanos: w.now * second}})
	case 1:
		if there && p.Alive { // it executes another program
			p.Alive = false
			w.processes[number] = p
			p.ID.ExecID++
			p.Seen.Executable = fmt.Sprint("of exec ", p.ID.ExecID)
			w.enter(p)
		}
	case 2:
		p.Alive = false
		if there {
			w.processes[number] = p
		}
	default:
		if number <= w.last { // its sockets may live longer than it
			w.move(number)
		}
	}
}

func (w *crowd) enter(p owner.Process) {
	w.last++
	p.Alive, p.Seen.FirstNanos = true, w.now*second
	w.processes[w.last] = p
}

func (w *crowd) move(number uint64) {
	p, there := w.processes[number]
	if !there {
		n, known := w.ledger.numbers[number]
		if !known || n.departure == nil {
			return
		}
		p = n.departure.process
	}
	key := sent(number)
	key.Direction = uint8(w.random.IntN(2))
	w.traffic[key] = plus(w.traffic[key], packets(1, 100))
	w.moved[instanceOf(p.ID)] += 100
}

// collect reads the machine, and the consumer takes or refuses the report.
func (w *crowd) collect(refuse bool) {
	w.now += 10
	s := at(w.now, counter{}, func(s *snapshot) {
		for number, p := range w.processes {
			s.processes[number] = p
		}
		for key, c := range w.traffic {
			s.traffic[key] = c
		}
	})
	departing := w.ledger.departing(s)
	for number := range departing {
		delete(w.processes, number)
		for _, direction := range []bpfDirection{bpfDirectionTRANSMIT, bpfDirectionRECEIVE} {
			delete(w.traffic, bpfTrafficKey{Number: number, Netns: host, Ifindex: 2, Direction: uint8(direction)})
		}
	}
	w.ledger.endings.refused, w.unanswered = w.unanswered, refuse
	r := w.ledger.post(s, departing)
	if refuse {
		return
	}
	w.ledger.endings.delivered()
	each := func(usages []usage, take func(k *known, u usage, r row)) {
		for _, u := range usages {
			for _, row := range u.rows {
				name := fmt.Sprint(seenIdentity(u.process), row.direction)
				if w.series[name] == nil {
					w.series[name] = &known{instance: instanceOf(u.process.ID), start: u.start}
				}
				take(w.series[name], u, row)
			}
		}
	}
	each(r.resumed, w.takePoint)
	each(r.processes, w.takePoint)
	each(r.gone, func(k *known, u usage, _ row) {
		if k.ended {
			w.t.Errorf("a series of process %d ends twice", u.process.ID.PID)
		}
		k.ended = true
	})
}

func (w *crowd) takePoint(k *known, u usage, r row) {
	if u.start != k.start {
		k.before, k.bytes, k.ended, k.start = k.before+k.bytes, 0, false, u.start
	}
	if k.ended || r.bytes < k.bytes {
		w.t.Errorf("a series of process %d has %d bytes after %d (ended: %v)", u.process.ID.PID, r.bytes, k.bytes, k.ended)
	}
	k.bytes = r.bytes
}

func (w *crowd) judge() {
	sums := map[instance]uint64{}
	for name, k := range w.series {
		if !k.ended {
			w.t.Errorf("series %s has not ended", name)
		}
		sums[k.instance] += k.before + k.bytes
	}
	equal(w.t, "bytes of each process", fmt.Sprint(w.moved), fmt.Sprint(sums))
}
