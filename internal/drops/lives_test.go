// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// world simulates a machine whose interfaces are made, drop packets, are renamed and are removed, and whose
// processes lose some of these packets and end. It has a consumer that takes most of the reports.
type world struct {
	*book
	t       *testing.T
	random  *rand.Rand
	living  map[uint32]bool
	last    uint32 // the highest index so far
	dropped uint64

	processes uint64 // the highest number so far; some have ended
	lost      uint64 // by processes, of dropped

	told map[line]*story
	sums map[bool]uint64 // of stories that were followed by another one, by whether they are processes'
}

// story is what the consumer knows of a series.
type story struct {
	start, until time.Time
	packets      uint64
	ended        bool
}

func (w *world) names() string { return fmt.Sprintf("eth%d", w.random.IntN(4)) }

// one returns an interface that exists, or 0 if there is none.
func (w *world) one() uint32 {
	indexes := make([]uint32, 0, len(w.living))
	for index := range w.last + 1 {
		if w.living[index] {
			indexes = append(indexes, index)
		}
	}
	if len(indexes) == 0 {
		return 0
	}
	return indexes[w.random.IntN(len(indexes))]
}

func (w *world) live() {
	index := w.one()
	switch w.random.IntN(10) {
	case 0:
		w.last++
		w.living[w.last] = true
		w.named(w.last, w.names())
	case 1:
		if index != 0 {
			w.named(index, w.names())
		}
	case 2:
		delete(w.living, index)
	case 3:
		w.processes++
		w.next.victims[w.processes] = victimWith(uint32(w.processes))
		if before, known := w.next.victims[w.processes-1]; known && w.processes%2 == 0 {
			w.next.victims[w.processes] = before // as after an exec that nothing shows
		}
	case 4:
		w.next.ended[w.random.Uint64N(w.processes+1)] = owner.Process{}
	default:
		if index != 0 {
			w.drop(index)
		}
	}
}

func (w *world) drop(index uint32) {
	packets := uint64(w.random.IntN(3))
	key := refused(0x100+0x80*w.random.Uint64N(2), index)
	key.Number = w.random.Uint64N(w.processes + 1) // 0 is nobody
	if _, ended := w.next.ended[key.Number]; ended && w.random.IntN(9) > 0 {
		key.Number = 0
	}
	if key.Number != 0 {
		key.Victim, key.Direction = bpfVictimVICTIM_SOCKET, bpfDirection(key.Number%2)
		w.lost += packets
	}
	w.next.detailed[key] += packets
	w.dropped += packets
}

// survey finds the interfaces and processes that exist.
func (w *world) survey() {
	epoch := w.turn + 2
	w.next.survey = interfaces.Survey{Epoch: epoch, Whole: true}
	for key, entry := range w.next.interfaces {
		if w.living[key.Ifindex] {
			entry.Epoch = epoch
			w.next.interfaces[key] = entry
		}
	}
}

// report makes a collection, which the consumer takes or refuses. The consumer checks the rules of series.
func (w *world) report() {
	w.survey()
	drops := w.collect(0)
	for _, key := range w.forgettable(w.next) {
		delete(w.next.interfaces, key)
	}
	if got := w.aggregated(); got != w.dropped {
		w.t.Fatalf("%d packets are in series, and %d were dropped", got, w.dropped)
	}
	if w.random.IntN(4) == 0 {
		return // refused
	}
	w.delivered()
	present := map[line]bool{}
	for _, d := range drops {
		present[line{d.series, d.loser}] = true
		w.hear(d)
	}
	for s, known := range w.told {
		if !present[s] && !known.ended {
			w.t.Fatalf("%+v stopped at %+v and has not ended", s, known)
		}
	}
}

func (w *world) hear(d drop) {
	now := w.next.now
	known := w.told[line{d.series, d.loser}]
	switch {
	case d.ended && (known == nil || known.ended || !known.start.Equal(d.start)):
		w.t.Fatalf("%+v ended, and was %+v", d, known)
	case d.ended:
		known.ended, known.until = true, now
		return
	case known == nil:
	case known.start.Equal(d.start) && !known.ended:
		if d.packets < known.packets {
			w.t.Fatalf("%+v went backwards from %+v", d, known)
		}
	case d.start.Before(known.until):
		w.t.Fatalf("%+v began before it ended: %+v", d, known)
	default:
		w.sums[d.victim != nil] += known.packets
	}
	w.told[line{d.series, d.loser}] = &story{start: d.start, until: now, packets: d.packets}
}

// total returns the sum of everything that the consumer has taken, of processes or of the host.
func (w *world) total(ofProcesses bool) uint64 {
	sum := w.sums[ofProcesses]
	for of, known := range w.told {
		if (of.victim != nil) == ofProcesses {
			sum += known.packets
		}
	}
	return sum
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		book: newBook(), t: t, random: rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // a test that can be repeated
		living: map[uint32]bool{}, told: map[line]*story{}, sums: map[bool]uint64{},
	}
	w.limit = 3
	return w
}

func TestLedgerOverRandomLives(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 100 {
				for range w.random.IntN(10) {
					w.live()
				}
				w.report()
			}
			clear(w.living)
			for range 40 { // some are refused
				w.report()
			}
			for s, known := range w.told {
				if !known.ended {
					t.Errorf("%+v has not ended: %+v", s, known)
				}
			}
			if got := w.total(false); got != w.dropped {
				t.Errorf("%d packets were told, and %d were dropped", got, w.dropped)
			}
			if got := w.total(true); got != w.lost {
				t.Errorf("%d packets of processes were told, and they have lost %d", got, w.lost)
			}
			if len(w.counters) != 0 || len(w.entries) != 0 || len(w.next.interfaces) != 0 {
				t.Errorf("%d series, %d entries and %d interfaces are left of nothing", len(w.counters), len(w.entries), len(w.next.interfaces))
			}
		})
	}
}
