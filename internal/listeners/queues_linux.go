// SPDX-License-Identifier: Apache-2.0

package listeners

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

var (
	_ instrument.Instrument[pmetric.Metrics] = (*Queues)(nil)
	_ instrument.Deliverer                   = (*Queues)(nil)
)

// Queues is the instrument that reports how many connections wait in accept queues. Its zero value
// is not usable: see [NewQueues].
type Queues struct {
	builder   *metadata.MetricsBuilder
	processes *process.Directory
	clock     *clock.Clock
	recorder  *stats.Recorder
	avoid     []string
	listeners *Listeners
	queues    queues
	offered   bool   // the last collection contains everything that has ended
	met       uint64 // listeners, since Start
}

// NewQueues returns Queues that record into builder and are not started. They do not use the hooks
// in avoid, which are those of [kernel.Avoiding].
func NewQueues(builder *metadata.MetricsBuilder, processes *process.Directory, c *clock.Clock, recorder *stats.Recorder, avoid []string) *Queues {
	return &Queues{builder: builder, processes: processes, clock: c, recorder: recorder, avoid: avoid}
}

// Start implements [instrument.Instrument].
func (q *Queues) Start(ctx context.Context) error {
	q.listeners, q.queues, q.offered, q.met = New(false, q.avoid), queues{}, false, 0
	if err := q.listeners.Start(ctx); err != nil {
		return err
	}
	q.recorder.Update(func(totals *stats.Totals) { *totals = stats.Totals{Hooks: q.listeners.Hooks()} })
	return nil
}

// Enable implements [instrument.Instrument].
func (q *Queues) Enable() error { return q.listeners.Enable() }

// Collect implements [instrument.Instrument].
func (q *Queues) Collect(context.Context) (pmetric.Metrics, error) {
	q.offered = false
	now := q.clock.Now()
	cgroupsErr := q.processes.FollowCgroups()
	there, _, err := q.listeners.read()
	if err != nil {
		return pmetric.NewMetrics(), errors.Join(err, cgroupsErr)
	}
	q.met += uint64(q.queues.update(there, q.processes.Hold))
	q.offered = true
	return emit(q.builder, now, q.queues.sorted()), errors.Join(cgroupsErr, q.audit(len(there)))
}

// audit updates the counts: a listener counts as aggregated once it has series.
func (q *Queues) audit(there int) error {
	s, err := q.listeners.Stats()
	if err != nil {
		return err
	}
	q.recorder.Update(func(totals *stats.Totals) {
		totals.Seen, totals.Aggregated = s.Seen+q.met, q.met
		totals.Lost = map[string]uint64{"map_full": s.MapFull}
		totals.MissedRuns = s.MissedRuns
		totals.Maps = map[string]stats.Map{bpfMapListening: {Entries: there, Limit: int(q.listeners.object.Maps[bpfMapListening].MaxEntries())}}
		totals.Hooks = q.listeners.Hooks()
	})
	return nil
}

// Delivered implements [instrument.Deliverer].
func (q *Queues) Delivered() {
	if q.offered {
		q.queues.delivered(q.processes.Release)
	}
}

// Shutdown implements [instrument.Instrument].
func (q *Queues) Shutdown(context.Context) error {
	for _, one := range q.queues {
		q.processes.Release(one.Process)
	}
	q.queues = nil
	return q.listeners.Shutdown()
}
