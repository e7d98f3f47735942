// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// maxWaiters is how many pairs of a process and a port can be counted at the same time. Each user
// except root may have a quarter of them: see [kernel.Quota].
const maxWaiters = 4096

// rootHolder is root as a holder of entries: its user id plus 1.
const rootHolder = 1

var (
	_ instrument.Instrument[pmetric.Metrics] = (*Durations)(nil)
	_ instrument.Deliverer                   = (*Durations)(nil)
)

// Durations is the instrument that reports how long waits took, as a metric. It shares the BPF
// programs of a Calls, which run while one of the two instruments does. Its zero value is not
// usable: see [NewDurations].
type Durations struct {
	calls     *Calls
	builder   *metadata.MetricsBuilder
	processes *process.Directory
	clock     *clock.Clock
	recorder  *stats.Recorder
	started   bool
	ledger    *durationsLedger
	offered   bool // the last collection was complete, so that a delivery ends series
	held      map[process.ID]int
	quotaOf   uint32 // the number of entries that the quota is a part of; 0 means that of the map
	quota     *kernel.Quota
}

// NewDurations returns Durations that record into builder, and are not started. The options of the
// Calls must have Durations set.
func NewDurations(of *Calls, builder *metadata.MetricsBuilder, processes *process.Directory, c *clock.Clock, recorder *stats.Recorder) *Durations {
	return &Durations{calls: of, builder: builder, processes: processes, clock: c, recorder: recorder}
}

// setDurations sets the sizes of the maps and the bounds of the buckets, if durations are wanted.
func (c *Calls) setDurations(spec *ebpf.CollectionSpec) error {
	if !c.options.Durations {
		spec.Maps[bpfMapWaitShares].MaxEntries = 1
		return nil
	}
	spec.Maps[bpfMapWaitDurations].MaxEntries = maxWaiters
	var bounds [len(durationBounds)]uint64
	for i, bound := range durationBounds {
		bounds[i] = uint64(bound)
	}
	return spec.Variables[bpfVarDurationBounds].Set(bounds)
}

// Start implements [instrument.Instrument]. If the kernel has no hooks for waits, the error matches
// [kernel.ErrUnsupported].
func (d *Durations) Start(ctx context.Context) error {
	if err := d.calls.acquire(ctx); err != nil {
		return err
	}
	if !d.calls.seesWaits {
		return errors.Join(fmt.Errorf("durations of waits: this kernel does not show waits: %w", kernel.ErrUnsupported), d.calls.release())
	}
	d.started = true
	d.recorder.Update(func(totals *stats.Totals) { *totals = stats.Totals{Hooks: d.calls.object.Hooks()} })
	return nil
}

// Enable implements [instrument.Instrument].
func (d *Durations) Enable() error {
	d.ledger, d.offered, d.held = newDurationsLedger(d.clock.Now()), false, map[process.ID]int{}
	d.quota = kernel.NewQuota(d.calls.object.Maps[bpfMapWaitShares], bpfShareOfSHARE_OF_WAITS, cmp.Or(d.quotaOf, maxWaiters))
	return errors.Join(d.quota.Apply(rootHolder, nil), d.calls.object.Enable())
}

// Collect implements [instrument.Instrument]. The result has a point of each series that has not
// ended, and the last point of each that has.
func (d *Durations) Collect(context.Context) (pmetric.Metrics, error) {
	d.offered = false
	now := d.clock.Now()
	cgroupsErr := d.processes.FollowCgroups()
	read, err := kernel.ReadAll[bpfDurationKey, bpfDurations](d.calls.object.Maps[bpfMapWaitDurations])
	if err != nil {
		return pmetric.NewMetrics(), errors.Join(fmt.Errorf("read durations of waits: %w", err), cgroupsErr)
	}
	users := map[uint64]uint64{}
	for key, raw := range read {
		users[raw.User]++
		if raw.Seen.FirstNs == 0 {
			continue // the program has added the entry, and has not counted in it yet
		}
		d.ledger.enter(key, inOurDurations(&raw), func() (process.Process, string) { return d.describe(key, &raw) })
	}
	err = errors.Join(cgroupsErr, d.quota.Apply(rootHolder, users), d.removeEnded(), d.audit(len(read)))
	posted := d.ledger.post(now)
	d.offered = true
	return emitDurations(d.builder, now, posted), err
}

func (d *Durations) describe(key bpfDurationKey, raw *bpfDurations) (process.Process, string) {
	id := idOf(key)
	d.held[id]++
	p := d.processes.Hold(id, process.Seen{
		FirstNanos: raw.Seen.FirstNs, CgroupID: raw.Seen.CgroupId,
		Comm: process.Text(raw.Seen.Comm[:]), Executable: process.Text(raw.Seen.Executable[:]),
	})
	return p, shownOf(p.Resource(d.builder.NewResourceBuilder()))
}

func idOf(key bpfDurationKey) process.ID {
	return process.ID{
		StartNanos: key.Process.StartNs, PID: key.Process.Pid, ExecID: key.Process.ExecId,
		UserID: key.Process.Uid, RealUserID: key.Process.RealUid,
	}
}

// removeEnded deletes the entries of processes that have ended from the kernel's map.
func (d *Durations) removeEnded() error {
	var errs error
	m := d.calls.object.Maps[bpfMapWaitDurations]
	alive := map[process.ID]bool{}
	for key, e := range d.ledger.entries {
		id := idOf(key)
		if _, asked := alive[id]; !asked {
			alive[id] = d.processes.Alive(id)
		}
		if alive[id] {
			continue
		}
		raw, err := kernel.Take[bpfDurations](m, key)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = errors.Join(errs, fmt.Errorf("take the durations of a process that has ended out: %w", err))
			continue
		}
		last := e.now
		if err == nil {
			last = inOurDurations(&raw)
		}
		d.ledger.remove(key, last)
		d.release(id)
	}
	return errs
}

// release lets the directory forget a process. The series have a copy of its description until they
// have ended.
func (d *Durations) release(id process.ID) {
	d.processes.Release(id)
	if d.held[id]--; d.held[id] == 0 {
		delete(d.held, id)
	}
}

// audit brings the recorder's counts up to date. Each wait is an event.
func (d *Durations) audit(entries int) error {
	var counted, full, beyond uint64
	for name, n := range map[string]*uint64{bpfVarWaitsCounted: &counted, bpfVarWaitsWithoutPlace: &full, bpfVarWaitsWithoutShare: &beyond} {
		if err := d.calls.object.Variables[name].Get(n); err != nil {
			return fmt.Errorf("read how many waits were counted: %w", err)
		}
	}
	refused, err := d.quota.Refused()
	if err != nil {
		return err
	}
	d.recorder.Update(func(totals *stats.Totals) {
		totals.Seen, totals.Aggregated = counted+full+beyond, counted
		totals.Lost = map[string]uint64{"map_full": full, "user_full": beyond}
		totals.Hooks = d.calls.object.Hooks()
		totals.Maps = map[string]stats.Map{bpfMapWaitDurations: {Entries: entries, Limit: maxWaiters, Refused: refused}}
	})
	return nil
}

// Delivered implements [instrument.Deliverer].
func (d *Durations) Delivered() {
	if d.offered {
		d.ledger.delivered()
	}
}

// Shutdown implements [instrument.Instrument].
func (d *Durations) Shutdown(context.Context) error {
	for id, times := range d.held {
		for range times {
			d.processes.Release(id)
		}
	}
	d.held = nil
	if !d.started {
		return nil
	}
	d.started = false
	return d.calls.release()
}
