// SPDX-License-Identifier: Apache-2.0

// Package drops counts the packets that the kernel discards, by the function that discarded them
// and the reason that it gave. Kernel side: bpf/drops.bpf.c.
package drops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type direction -type victim -type share_of bpf ../../bpf/drops.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var (
	_ instrument.Instrument[pmetric.Metrics] = (*Drops)(nil)
	_ instrument.Deliverer                   = (*Drops)(nil)
	_ instrument.Peeker[pmetric.Metrics]     = (*Drops)(nil)
)

// Options are what an operator can set.
type Options struct {
	// RootPath is where the host's / is mounted, as in [host.CgroupRoot].
	RootPath string

	// Victims enables finding out which process lost a packet.
	Victims bool

	// Resets enables counting TCP resets.
	Resets bool

	// Unseen enables reading the kernel's own counters of drops.
	Unseen bool

	// Explanations adds an attribute that tells in words what each drop means.
	Explanations bool
}

// Drops is the instrument. Its zero value is not usable: see [New].
type Drops struct {
	builder    *metadata.MetricsBuilder
	owners     *owner.Owners
	processes  *process.Directory
	clock      *clock.Clock
	recorder   *stats.Recorder
	interfaces *interfaces.Reader
	contexts   *tracecontext.Contexts
	options    Options

	maxKeys, maxCoarse uint32 // of the kernel maps; 0 keeps the sizes of bpf/drops.bpf.c
	quotaOf            uint32 // the number of entries that the quota is a part of; 0 means that of the map

	object   *kernel.Object
	open     kernel.Closers
	counting string // the program for the tracepoint kfree_skb
	words    words
	ledger   *ledger
	roster   *owner.Roster
	quota    *kernel.Quota
	refused  error           // the reason if it is not known which process lost a packet
	knows    bool            // it is known
	ended    map[uint64]bool // processes that had ended at the last read, by number

	remembered map[uint64]owner.Process // likewise, those that were the last to have a port
	offered    bool                     // what the ledger last posted was returned

	counters        *kernelCounters
	inodeOfHost     func() (uint32, error) // of the network namespace whose counters are read
	refusedCounters error                  // the reason if they are not read
	unseen          *unseenAccount         // nil if they are not read

	symbols     *symbols.Table // nil if none are kept
	symbolsRead time.Time

	survey interfaces.Survey        // of the last read
	peeks  *metadata.MetricsBuilder // nil if Peek is not enabled
}

// New returns a Drops that reports through builder and counts its work in b. interfaces must be
// started before it, and so must contexts, which may be nil. It starts owners itself if that is
// possible, and works without them otherwise.
func New(builder *metadata.MetricsBuilder, owners *owner.Owners, interfaces *interfaces.Reader, contexts *tracecontext.Contexts,
	processes *process.Directory, c *clock.Clock, b *stats.Recorder, options Options,
) *Drops {
	return &Drops{
		builder: builder, owners: owners, interfaces: interfaces, contexts: contexts, processes: processes, clock: c, recorder: b, options: options,
		counters: &kernelCounters{process: hostProcess}, inodeOfHost: interfaces.Host,
	}
}

// Start implements [instrument.Instrument].
func (d *Drops) Start(ctx context.Context) error {
	if err := d.start(ctx); err != nil {
		return errors.Join(err, d.open.Close())
	}
	d.recorder.Update(func(totals *stats.Totals) { *totals = stats.Totals{Hooks: d.hooks()} })
	return nil
}

func (d *Drops) start(ctx context.Context) error {
	if err := d.startOwners(ctx); err != nil {
		return err
	}
	if err := d.load(); err != nil {
		return fmt.Errorf("load drops programs: %w", err)
	}
	if err := d.object.Start(ctx, d.options.RootPath); err != nil {
		return err
	}
	d.tryCounters()
	return nil
}

func (d *Drops) startOwners(ctx context.Context) error {
	d.knows, d.refused = false, nil
	if !d.options.Victims {
		return nil
	}
	if d.refused = d.owners.Start(ctx); d.refused != nil && !errors.Is(d.refused, kernel.ErrUnsupported) {
		return d.refused
	}
	if d.knows = d.refused == nil; d.knows {
		d.open = append(d.open, kernel.Shutdown(d.owners.Shutdown), kernel.CloseFunc(func() { d.knows = false }))
	}
	return nil
}

func (d *Drops) hooks() []kernel.Hook {
	return slices.Concat(d.object.Hooks(), d.ownerHooks(), d.uncountedResets(), d.unseenHooks())
}

// countsResets reports whether resets are wanted and this kernel loads the programs for them,
// which look up the owner of the connection.
func (d *Drops) countsResets() bool { return d.options.Resets && d.refused == nil }

// uncountedResets returns a hook that tells why resets are not counted.
func (d *Drops) uncountedResets() []kernel.Hook {
	if !d.options.Resets || d.countsResets() {
		return nil
	}
	return []kernel.Hook{{Job: "reset_sent", Name: "none", NotSeen: "TCP resets", Refused: []string{d.refused.Error()}}}
}

// ownerHooks returns the hooks by which the owners of sockets are known.
func (d *Drops) ownerHooks() []kernel.Hook {
	switch {
	case d.knows:
		return d.owners.Hooks()
	case d.refused != nil:
		return []kernel.Hook{{Job: "owner", Name: "none", NotSeen: "which process lost a packet", Refused: []string{d.refused.Error()}}}
	}
	return nil
}

// Enable implements [instrument.Instrument].
func (d *Drops) Enable() error {
	d.ledger, d.offered = newLedger(d.clock.Now()), false
	d.roster, d.ended, d.remembered = owner.NewRoster(d.processes, d.builder), nil, map[uint64]owner.Process{}
	d.open = append(d.open, kernel.CloseFunc(func() { d.roster.KeepOnly(nil) }))
	if d.knows {
		if err := d.owners.Enable(); err != nil {
			return err
		}
	}
	return errors.Join(d.object.Enable(), d.updateStats(&snapshot{}), d.beginUnseen())
}

// tryCounters finds out whether the kernel's own counters can be read.
func (d *Drops) tryCounters() {
	d.refusedCounters = nil
	switch {
	case !d.options.Unseen:
	case len(d.words.reasons) == 0:
		d.refusedCounters = fmt.Errorf("%w: nothing says which drops a counter counts, before Linux 5.17", kernel.ErrUnsupported)
	default:
		_, d.refusedCounters = d.firstCounters()
	}
}

// unseenHooks returns a hook that tells why the kernel's own counters are not read.
func (d *Drops) unseenHooks() []kernel.Hook {
	if d.refusedCounters == nil {
		return nil
	}
	return []kernel.Hook{{
		Job: "unseen", Name: "none", NotSeen: "what the kernel's own counters count beyond the drops that are seen",
		Refused: []string{d.refusedCounters.Error()},
	}}
}

func (d *Drops) firstCounters() (map[string]uint64, error) {
	survey, err := d.interfaces.Survey()
	if err != nil {
		return nil, err
	}
	s := &snapshot{survey: survey}
	err = d.readCounters(s)
	return s.counters, err
}

// beginUnseen reads the kernel's own counters after the programs have begun to count, so that what
// happens in between is not missing later.
func (d *Drops) beginUnseen() error {
	d.unseen = nil
	if !d.options.Unseen || d.refusedCounters != nil {
		return nil
	}
	counters, err := d.firstCounters()
	if err != nil {
		return fmt.Errorf("read the kernel's counters: %w", err)
	}
	d.unseen = newUnseenAccount(d.words.rules, d.clock.Now(), counters)
	return nil
}

// Shutdown implements [instrument.Instrument].
func (d *Drops) Shutdown(context.Context) error { return d.open.Close() }

// Collect implements [instrument.Instrument]. Its result contains every series that has not ended,
// with the packets since its start.
func (d *Drops) Collect(context.Context) (pmetric.Metrics, error) {
	d.offered = false
	s, err := d.read()
	if s == nil {
		return pmetric.NewMetrics(), fmt.Errorf("read drops: %w", err)
	}
	err = errors.Join(err, d.learnFunctions(s))
	d.ledger.enter(s, d.words)
	exemplars := d.ledger.examples(s)
	err = errors.Join(err, d.makeRoom(s), d.forgetProcesses(s), d.updateStats(s))
	posted := d.ledger.post(s, exemplars)
	d.roster.KeepOnly(victimsOf(posted))
	d.offered = true
	emitter := d.emitter(d.builder)
	metrics := emitter.emit(s.now, posted)
	if d.unseen != nil {
		emitter.emitUnseen(s.now, d.unseen.post(s.counters, d.ledger.covered)).MoveAndAppendTo(metrics.ResourceMetrics())
	}
	return metrics, err
}

func (d *Drops) emitter(builder *metadata.MetricsBuilder) emitter {
	return emitter{builder: builder, host: d.processes.Host(builder.NewResourceBuilder()), wall: d.clock.Wall, explain: d.options.Explanations}
}

// PeekWith enables Peek, whose result builder makes.
func (d *Drops) PeekWith(builder *metadata.MetricsBuilder) { d.peeks = builder }

// Peek implements [instrument.Peeker]. It enters what the kernel side has counted into a copy of
// the ledger, and removes nothing from the kernel's maps.
func (d *Drops) Peek(context.Context) (pmetric.Metrics, error) {
	if d.peeks == nil || d.ledger == nil {
		return pmetric.NewMetrics(), errors.ErrUnsupported
	}
	s := &snapshot{now: d.clock.Now(), survey: d.survey}
	if err := d.readMaps(s); err != nil {
		return pmetric.NewMetrics(), fmt.Errorf("read drops: %w", err)
	}
	err := errors.Join(d.meetProcesses(s, sync.OnceValues(d.owners.Processes)), d.learnFunctions(s))
	ledger := d.ledger.copy()
	ledger.enter(s, d.words)
	return d.emitter(d.peeks).emit(s.now, ledger.post(s, nil)), err
}

// Delivered implements [instrument.Deliverer].
func (d *Drops) Delivered() {
	if d.offered {
		d.ledger.delivered()
	}
}
