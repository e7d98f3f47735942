// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 records ../../bpf/drop_records.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var _ instrument.Instrument[plog.Logs] = (*Records)(nil)

// RecordOptions are what an operator can set for single packets.
type RecordOptions struct {
	Version      string        // of the receiver
	Interval     time.Duration // between two records of one place, reason and flow
	MaxPerSecond int           // records
}

// Records reports single dropped packets. Its zero value is not usable: see [NewRecords].
// Kernel side: bpf/drop_records.bpf.c.
type Records struct {
	resource  metadata.ResourceAttributesConfig
	contexts  *tracecontext.Contexts
	processes *process.Directory
	clock     *clock.Clock
	recorder  *stats.Recorder
	options   RecordOptions

	object  *kernel.Object
	open    kernel.Closers
	ring    *ringbuf.Reader
	words   words
	names   kernel.FunctionNames
	corrupt uint64
}

// NewRecords returns Records that keep their counts in r. contexts must be started before it, and
// may be nil.
func NewRecords(resource metadata.ResourceAttributesConfig, contexts *tracecontext.Contexts, processes *process.Directory,
	c *clock.Clock, r *stats.Recorder, options RecordOptions,
) *Records {
	return &Records{resource: resource, contexts: contexts, processes: processes, clock: c, recorder: r, options: options}
}

// Start implements [instrument.Instrument].
func (r *Records) Start(ctx context.Context) error {
	if err := r.load(); err != nil {
		return errors.Join(fmt.Errorf("load programs of drop records: %w", err), r.Shutdown(ctx))
	}
	if err := r.object.Start(ctx, ""); err != nil {
		return errors.Join(err, r.Shutdown(ctx))
	}
	r.recorder.Update(func(totals *stats.Totals) { *totals = stats.Totals{Hooks: r.object.Hooks()} })
	return nil
}

func (r *Records) load() error {
	told, err := askKernel()
	if err != nil {
		return err
	}
	spec, err := loadRecords()
	if err != nil {
		return err
	}
	r.words = words{reasons: told.reasons, meanings: told.meanings}
	errs := r.contexts.Fit(spec)
	for name, value := range map[string]any{
		recordsVarReasonConsumed:     numbersOf(told.reasons).consumed,
		recordsVarReasonNotAvailable: uint32(reasonNotAvailable),
		recordsVarIntervalNs:         uint64(r.options.Interval),
		recordsVarMaxPerSecond:       uint64(r.options.MaxPerSecond),
	} {
		errs = errors.Join(errs, spec.Variables[name].Set(value))
	}
	if errs != nil {
		return errs
	}
	hook := kernel.Hook{Job: "drop_record", Name: "tp_btf/kfree_skb", Programs: []string{recordVariantFor(told.arguments)}}
	if r.object, err = kernel.Load(spec, []kernel.Hook{hook}, r.contexts.Maps(spec)); err != nil {
		return err
	}
	r.open = append(r.open, r.object)
	if r.ring, err = ringbuf.NewReader(r.object.Maps[recordsMapDropRecords]); err != nil {
		return fmt.Errorf("open ring: %w", err)
	}
	r.open = append(r.open, r.ring)
	r.corrupt = 0
	return nil
}

// recordVariantFor returns the name of the program for a kfree_skb tracepoint with this many
// arguments.
func recordVariantFor(arguments int) string {
	switch {
	case arguments <= 2:
		return recordsProgReportDropBare
	case arguments < argumentsWithSocket:
		return recordsProgReportDropReason
	default:
		return recordsProgReportDropSocket
	}
}

// Enable implements [instrument.Instrument].
func (r *Records) Enable() error { return r.object.Enable() }

// Shutdown implements [instrument.Instrument].
func (r *Records) Shutdown(context.Context) error { return r.open.Close() }

// Collect implements [instrument.Instrument].
func (r *Records) Collect(context.Context) (plog.Logs, error) {
	var packets []droppedPacket
	var symbolsMissing error
	locate := r.names.Locator(&symbolsMissing)
	err := kernel.DrainOnce(r.ring, func(record []byte) error {
		p, err := decodePacket(record, r.words, locate)
		if err != nil {
			r.corrupt++
			return err
		}
		packets = append(packets, p)
		return nil
	})
	e := recordEmitter{
		host: r.processes.Host(metadata.NewResourceBuilder(r.resource)), version: r.options.Version, wall: r.clock.Wall,
	}
	return e.emit(r.clock.Now(), packets), errors.Join(err, symbolsMissing, r.updateStats())
}

func (r *Records) updateStats() error {
	counts, err := kernel.ReadCounts(r.object.Maps[recordsMapStats])
	if err != nil {
		return err
	}
	missed, err := r.object.MissedRuns()
	if err != nil {
		return err
	}
	r.recorder.Update(func(totals *stats.Totals) {
		totals.Seen = counts[recordsStatSTAT_SEEN] + missed
		totals.SampledOut = counts[recordsStatSTAT_SAMPLED_OUT]
		totals.Lost = map[string]uint64{
			"ring_full": counts[recordsStatSTAT_LOST_RING_FULL], "unreadable": r.corrupt, "recursion": missed,
		}
		totals.Hooks = r.object.Hooks()
	})
	return nil
}
