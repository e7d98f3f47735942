// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

// TestRandomLives requires that what is published of random lives of processes and interfaces is right for a consumer,
// which only reads the points. A seed that fails can be run alone:
// go test -run 'TestRandomLives/units_to_learn/seed_7$'.
func TestRandomLives(t *testing.T) {
	for name, how := range map[string]conditions{
		"as they are":          {},
		"units to learn":       {blind: true},
		"refused now and then": {refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range int64(40) {
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { t.Parallel(); live(t, seed, how) })
			}
		})
	}
}

func FuzzLives(f *testing.F) {
	f.Add(int64(1), false, false)
	f.Add(int64(1), true, false)
	f.Add(int64(1), false, true)
	f.Fuzz(func(t *testing.T, seed int64, blind, refused bool) {
		live(t, seed, conditions{blind: blind, refused: refused})
	})
}

func live(t *testing.T, seed int64, how conditions) {
	w := newWorld(seed, how)
	for range 2 {
		r := startReceiver(w)
		for range 200 {
			w.step()
			if w.Intn(3) == 0 {
				r.collect(t)
			}
			if t.Failed() {
				return
			}
		}
		w.now += second
		w.forget() // the receiver restarts
	}
}

// witness is the receiver, and a consumer of what it publishes.
type witness struct {
	*world
	*consumer
	ledger  *ledger
	emitter emitter
	boot    time.Time
	epoch   uint64
	refuses bool // the consumer did not take the last batch
}

func startReceiver(w *world) *witness {
	boot := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := &witness{world: w, consumer: newConsumer(), boot: boot, epoch: w.now, ledger: newLedger(w.now, w.spaces[0].inode, true, seenIdentity)}
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	v.emitter = emitter{
		builder: builder,
		speak: membersOf(builder, func(id process.ID, seen process.Seen) process.Process {
			return process.Process{
				ID: id, HostID: "h1", Created: boot.Add(time.Duration(id.StartNanos)),
				Comm: seen.Comm, Executable: seen.Executable,
			}
		}),
		start: boot.Add(time.Duration(w.now)), boot: w.now,
	}
	v.ledger.begin(w.snapshot(v.epoch), maps.Clone(w.processless))
	return v
}

func (v *witness) collect(t *testing.T) {
	t.Helper()
	v.epoch++
	s := v.snapshot(v.epoch)
	departing := v.ledger.departing(s)
	v.ledger.endings.refused = v.refuses
	report := v.ledger.post(s, departing)
	v.forgotten(v.ledger, departing)
	if v.refuses = v.refused && v.Intn(3) == 0; v.refuses {
		return
	}
	v.read(v.emitter.emit(v.boot.Add(time.Duration(v.now)), report), v.boot.Add(time.Duration(v.now)))
	if !v.blind {
		v.audit(report)
	}
	v.ledger.endings.delivered()
	for _, wrong := range v.wrong {
		t.Errorf("at %d: %s", v.now, wrong)
	}
	v.wrong = nil
}

// audit compares what is published with what happened.
func (v *witness) audit(r *report) {
	for task, want := range v.fact.tasks {
		got := v.sum("process.network.io", func(s *stream) bool { return s.attributes["process.pid"] == int64(task.pid) })
		if got != want {
			v.complain(fmt.Sprint("process ", task.pid), fmt.Sprintf("moved %d, and is said to have moved %d", want, got))
		}
	}
	got := v.sum("nettap.interface.io", func(*stream) bool { return true })
	for _, iface := range v.ledger.interfaces {
		if len(iface.spoken.accounts) == 0 { // it is published when the interface that had its identity has ended
			got += iface.baseline[0].sums.bytes + iface.baseline[1].sums.bytes
		}
	}
	if got != v.fact.accounts {
		v.complain("accounts", fmt.Sprintf("have %d, and are said to have %d", v.fact.accounts, got))
	}
	v.auditStarts()
	for _, st := range r.interfaces {
		v.auditCounter(st)
	}
}

// auditCounter checks that the sum of an interface's accounts and what is unobserved equals what its counter
// has counted since they began.
func (v *witness) auditCounter(st statement) {
	last := slices.Concat(v.ledger.ending, v.ledger.endings.closing)
	ending := slices.ContainsFunc(last, func(other statement) bool { return other.identity() == st.identity() })
	for _, d := range v.devices {
		if d.identity() != st.identity() || ending || d.strange || !d.space.inhabited || d.unread[st.start] {
			continue
		}
		base, known := d.then[st.start]
		if d.since >= st.start {
			base, known = [2]int64{}, true
		}
		for direction, want := range d.own {
			got := int64(0)
			for _, a := range st.accounts {
				if int(a.direction) == direction {
					got += int64(a.bytes)
				}
			}
			for _, u := range st.unobserved {
				if int(u.direction) == direction {
					got += u.bytes
				}
			}
			onWay := v.ledger.interfaces[d.key()].baseline[direction].onWay.bytes
			if off := got - (int64(want.bytes) - base[direction]); !known || len(st.unobserved) != 2 || off > onWay || -off > onWay {
				v.complain(d.name, fmt.Sprintf("has %d on accounts and unobserved since %d, and its counter %d", got, st.start, int64(want.bytes)-base[direction]))
			}
		}
	}
}

// auditStarts checks that no series has more than its process has moved since its start.
func (v *witness) auditStarts() {
	for key, s := range v.series {
		pid, ofProcess := s.attributes["process.pid"].(int64)
		if !ofProcess || s.metric != "process.network.io" {
			continue
		}
		var moved int64
		for _, m := range v.fact.moves {
			if int64(m.task.pid) == pid && !v.boot.Add(time.Duration(m.at)).Before(s.start) {
				moved += m.bytes
			}
		}
		if s.value > moved {
			v.complain(key, fmt.Sprintf("says %d, but %d has moved since its start", s.value, moved))
		}
	}
}
