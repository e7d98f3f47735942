// SPDX-License-Identifier: Apache-2.0

// Package accepts reports each TCP connection that a process accepts, as a log
// record. Kernel side: bpf/accepts.bpf.c.
package accepts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/closings"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/listeners"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/places"
	"github.com/seed-7756021b/nettap/internal/policy"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/refusals"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/accepts.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var _ instrument.Instrument[plog.Logs] = (*Accepts)(nil)

// Options are what the configuration says of the instrument.
type Options struct {
	MaxPerSecond int            // records per second; 0 is no limit
	LateBind     time.Duration  // how long a record waits for the connection's first trace context
	AvoidHooks   []string       // as in [kernel.Avoiding]
	Places       *places.Places // that are started before the instrument; nil: none
	Expect       []policy.Rule  // which accepts are expected; if it is empty there are no verdicts
	Learn        string         // the file that rules for what was seen are written to; empty means none
	Refused      bool           // report attempts that were refused
	Closed       bool           // report how connections end
	Listeners    bool           // report when a process begins and stops listening
}

// Accepts is the instrument. Its zero value is not usable: see [New].
type Accepts struct {
	builder   *metadata.LogsBuilder
	processes *process.Directory
	clock     *clock.Clock
	recorder  *stats.Recorder
	contexts  *tracecontext.Contexts
	options   Options
	policy    *policy.Policy
	ringBytes int // size of the ring; 0 keeps the size that the kernel side has

	object   *kernel.Object
	ring     *ringbuf.Reader
	open     kernel.Closers
	held     []accept // accepts that wait for a trace context
	last     bool     // nothing waits any more
	corrupt  uint64   // malformed records, since Start
	filtered uint64   // records that the configuration of events left out, since Start
	refused  uint64   // entries for refused attempts that were read, since Start
	learner  *policy.Learner
	refusals *refusals.Refusals // nil: refused attempts are not observed
	unseen   string             // the reason, if they should be
	closings *closings.Closings // nil: ends of connections are not reported
	ends     ends
	nobodys  uint64 // connections that ended since Start and that no process had accepted

	listeners *listeners.Listeners // nil: they are not reported
}

// New returns an Accepts that records into builder. contexts must be started before it, and may be
// nil.
func New(builder *metadata.LogsBuilder, contexts *tracecontext.Contexts, processes *process.Directory,
	c *clock.Clock, b *stats.Recorder, options Options,
) *Accepts {
	return &Accepts{
		builder: builder, contexts: contexts, processes: processes, clock: c, recorder: b,
		options: options, policy: policy.New(options.Expect),
	}
}

// Start implements [instrument.Instrument].
func (a *Accepts) Start(ctx context.Context) error {
	if err := a.start(ctx); err != nil {
		return errors.Join(err, a.Shutdown(ctx))
	}
	a.startRefusals(ctx)
	a.recorder.Update(func(totals *stats.Totals) { *totals = stats.Totals{Hooks: a.hooks()} })
	return nil
}

func (a *Accepts) start(ctx context.Context) error {
	if err := a.openLearner(); err != nil {
		return err
	}
	if err := a.load(); err != nil {
		return fmt.Errorf("load accepts programs: %w", err)
	}
	if err := a.object.Start(ctx, ""); err != nil {
		return err
	}
	if err := a.startListeners(ctx); err != nil {
		return err
	}
	return a.startClosings(ctx)
}

// startListeners begins to observe listeners, if they are to be reported.
func (a *Accepts) startListeners(ctx context.Context) error {
	if !a.options.Listeners {
		return nil
	}
	a.listeners = listeners.New(true, a.options.AvoidHooks)
	return a.listeners.Start(ctx)
}

// startClosings begins to observe the ends of connections, if they are to be reported.
func (a *Accepts) startClosings(ctx context.Context) error {
	a.ends, a.nobodys = ends{accepted: map[closings.ID]acceptor{}}, 0
	if !a.options.Closed {
		return nil
	}
	a.closings = closings.New(a.options.AvoidHooks)
	return a.closings.Start(ctx)
}

// startRefusals begins to observe refused attempts. If the kernel tells neither why it drops a
// packet nor where its functions are this is not possible. Accepts are still reported then.
func (a *Accepts) startRefusals(ctx context.Context) {
	a.unseen = ""
	if !a.options.Refused {
		return
	}
	counting := refusals.New(a.options.AvoidHooks)
	if err := counting.Start(ctx); err != nil {
		a.unseen = "refused attempts, since " + err.Error()
		return
	}
	a.refusals = counting
}

// hooks returns the hooks of everything that runs.
func (a *Accepts) hooks() []kernel.Hook {
	hooks := a.object.Hooks()
	if a.closings != nil {
		hooks = append(hooks, a.closings.Hooks()...)
	}
	if a.listeners != nil {
		hooks = append(hooks, a.listeners.Hooks()...)
	}
	if a.refusals != nil {
		return append(hooks, a.refusals.Hooks()...)
	}
	if a.unseen != "" {
		hooks[0].DoesNotSee(a.unseen)
	}
	return hooks
}

// openLearner reads what was learned by an earlier run.
func (a *Accepts) openLearner() error {
	if a.options.Learn == "" {
		return nil
	}
	var err error
	a.learner, err = policy.Open(a.options.Learn)
	return err
}

// Enable implements [instrument.Instrument].
func (a *Accepts) Enable() error {
	return errors.Join(a.object.Enable(), a.closings.Enable(), a.refusals.Enable(), a.listeners.Enable())
}

func (a *Accepts) load() error {
	types, err := kernel.Types()
	if err != nil {
		return fmt.Errorf("load the kernel's BTF: %w", err)
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	hooks, err := chooseHooks(kernel.Avoiding(a.options.AvoidHooks, kernel.Probe), types, spec)
	if err != nil {
		return err
	}
	if err := spec.Variables[bpfVarMaxPerSecond].Set(uint64(a.options.MaxPerSecond)); err != nil {
		return fmt.Errorf("set max_per_second: %w", err)
	}
	if err := spec.Variables[bpfVarWithSequence].Set(a.options.Closed); err != nil {
		return fmt.Errorf("set with_sequence: %w", err)
	}
	if a.ringBytes != 0 {
		spec.Maps[bpfMapAccepts].MaxEntries = uint32(a.ringBytes)
	}
	seats := a.options.Places.Seat(spec, hooks, map[string]places.Rank{places.Exit: places.Second})
	if a.object, err = kernel.Load(spec, seats.Hooks, seats.Maps); err != nil {
		return err
	}
	a.object.Follow(seats.Slots)
	a.open = append(a.open, a.object)
	if a.ring, err = ringbuf.NewReader(a.object.Maps[bpfMapAccepts]); err != nil {
		return fmt.Errorf("open ring: %w", err)
	}
	a.open = append(a.open, a.ring)
	a.corrupt, a.filtered, a.refused, a.held, a.last = 0, 0, 0, nil, false
	return nil
}

// Collect implements [instrument.Instrument].
func (a *Accepts) Collect(context.Context) (plog.Logs, error) {
	// first, so that the accepts of connections that have ended are in the other ring by now
	ended, endedErr := a.closings.Read()
	accepts, err := a.drain()
	if a.options.Closed {
		a.ends.note(accepts)
	}
	err = errors.Join(err, a.processes.FollowCgroups())
	now := a.clock.BootNanos(a.clock.Now())
	accepts, a.held = bind(append(a.held, accepts...), a.contexts.First, a.waits(now))
	logs := emit(a.builder, a.processes.Describe, a.judge, a.clock.Wall, a.clock.Now(), accepts)
	refused, refusedErr := a.refusals.Read(a.last)
	a.refused += uint64(len(refused))
	emitRefused(logs, a.builder, a.processes.Host(a.builder.NewResourceBuilder()), a.clock.Wall, a.clock.Now(), refused)
	known, nobodys := a.ends.join(ended)
	a.nobodys += uint64(nobodys)
	emitClosed(logs, a.builder, a.processes.Describe, a.clock.Wall, a.clock.Now(), known)
	listening, listeningErr := a.listeners.Read()
	emitListeners(logs, a.builder, a.processes.Describe, a.clock.Wall, a.clock.Now(), listening)
	a.filtered += uint64(len(accepts) + len(refused) + len(known) + len(listening.Opened) + len(listening.Closed) - logs.LogRecordCount())
	return logs, errors.Join(err, endedErr, refusedErr, listeningErr, a.learner.Write(), a.Audit())
}

// judge sets whether the accepts of a process are expected, and learns rules from them.
func (a *Accepts) judge(who process.Process, accepts []accept) {
	rules := a.policy.Of(who)
	for i := range accepts {
		of := &accepts[i]
		a.learner.See(who, of.local.Port(), of.peer.Addr())
		switch {
		case a.policy.IsSilent():
		case rules.Expect(of.local.Port(), of.peer.Addr()):
			of.verdict = expected
		default:
			of.verdict = unexpected
		}
	}
}

// Finish announces that the next Collect is the last one, so that no accept waits any longer.
func (a *Accepts) Finish() { a.last = true }

// waits returns a function that reports whether an accept may still get a context at now.
func (a *Accepts) waits(now uint64) func(accept) bool {
	return func(accepted accept) bool {
		return !a.last && a.contexts.BindsLate() && accepted.nanos+uint64(a.options.LateBind) > now
	}
}

// Shutdown implements [instrument.Instrument].
func (a *Accepts) Shutdown(context.Context) error {
	err := errors.Join(a.refusals.Shutdown(), a.closings.Shutdown(), a.listeners.Shutdown())
	a.refusals, a.closings, a.listeners = nil, nil, nil
	return errors.Join(err, a.open.Close())
}

// drain returns the accepts in the ring, but no more than it can hold.
func (a *Accepts) drain() ([]accept, error) {
	var accepts []accept
	err := kernel.DrainOnce(a.ring, func(record []byte) error {
		accept, err := decode(record)
		if err != nil {
			a.corrupt++
			return err
		}
		accepts = append(accepts, accept)
		return nil
	})
	return accepts, err
}

// Audit updates the counts without reading the ring. What is in the ring counts as seen but not as
// reported.
func (a *Accepts) Audit() error {
	counts, err := kernel.ReadCounts(a.object.Maps[bpfMapStats])
	if err != nil {
		return err
	}
	missed, err := a.missed()
	if err != nil {
		return err
	}
	all, err := a.object.MissedRuns()
	if err != nil {
		return err
	}
	ends, err := a.closings.Stats()
	if err != nil {
		return err
	}
	listening, err := a.listeners.Stats()
	if err != nil {
		return err
	}
	a.recorder.Update(func(totals *stats.Totals) {
		totals.Seen = counts[bpfStatSTAT_SEEN] + missed + a.refused + ends.Seen + listening.Seen
		totals.SampledOut = counts[bpfStatSTAT_SAMPLED_OUT] + a.filtered + a.nobodys
		if totals.Lost == nil {
			totals.Lost = map[string]uint64{}
		}
		totals.Lost["ring_full"] = counts[bpfStatSTAT_LOST_RING_FULL] + ends.RingFull + listening.RingFull
		totals.Lost["unreadable"] = counts[bpfStatSTAT_LOST_UNREADABLE] + a.corrupt + ends.Unreadable + listening.Unreadable
		if a.options.Closed || a.options.Listeners {
			totals.Lost["map_full"] = ends.MapFull + listening.MapFull
		}
		totals.Lost["preempted"] = missed
		totals.MissedRuns = all - missed + ends.MissedRuns + listening.MissedRuns
		totals.Hooks = a.hooks()
	})
	return nil
}

// missed returns for how many accepts the kernel did not run our program because another run of it
// was preempted on the same CPU. A program that also runs for other calls is not included, since
// it is not known how many of those were accepted: see stats.Totals.MissedRuns.
func (a *Accepts) missed() (uint64, error) {
	for _, name := range []string{bpfProgSeeGraft, bpfProgProbeGraft} {
		if program, ok := a.object.Programs[name]; ok {
			return kernel.MissedRuns(program)
		}
	}
	return 0, nil
}
