// SPDX-License-Identifier: Apache-2.0

// Package connections counts what becomes of the TCP connections of each process: connects and their
// errors, retransmitted segments, and round-trip times when connections end. The BPF programs are in
// bpf/connections.bpf.c.
package connections

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type deed -type role -type failure bpf ../../bpf/connections.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var (
	_ instrument.Instrument[pmetric.Metrics] = (*Connections)(nil)
	_ instrument.Deliverer                   = (*Connections)(nil)
)

// talliesPerProcess is how many tallies a process is expected to have: one of segments, one of
// successful connects, one of ends for each role, and some of errors.
const talliesPerProcess = 8

// Connections is the instrument. Its zero value is not usable: see [New].
type Connections struct {
	builder   *metadata.MetricsBuilder
	owners    *owner.Owners
	processes *process.Directory
	clock     *clock.Clock
	recorder  *stats.Recorder
	options   Options

	maxTallies  uint32 // 0: talliesPerProcess for each process
	places      uint32 // 0: as many as the kernel side has
	object      *kernel.Object
	gracePeriod *kernel.GracePeriod
	open        kernel.Closers
	ledger      *ledger
	roster      *owner.Roster
	ended       map[uint64]bool // the numbers of processes that had ended at the last collection
	offered     bool            // the last collection was returned, so that a delivery ends series
}

// New returns Connections that record into builder and are not started. Their Start also starts owners.
func New(builder *metadata.MetricsBuilder, owners *owner.Owners, processes *process.Directory, c *clock.Clock, recorder *stats.Recorder, options Options) *Connections {
	return &Connections{builder: builder, owners: owners, processes: processes, clock: c, recorder: recorder, options: options}
}

// Start implements [instrument.Instrument].
func (c *Connections) Start(ctx context.Context) error {
	if err := c.start(ctx); err != nil {
		return errors.Join(err, c.open.Close())
	}
	c.recorder.Update(func(totals *stats.Totals) { *totals = stats.Totals{Hooks: c.hooks()} })
	return nil
}

func (c *Connections) start(ctx context.Context) error {
	if err := c.owners.Start(ctx); err != nil {
		return err
	}
	c.open = append(c.open, kernel.Shutdown(c.owners.Shutdown))
	if err := c.load(); err != nil {
		return fmt.Errorf("load connections programs: %w", err)
	}
	return c.object.Start(ctx, c.options.RootPath)
}

func (c *Connections) load() error {
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	hooks, err := chooseHooks(kernel.Avoiding(c.options.AvoidHooks, kernel.Probe))
	if err != nil {
		return err
	}
	shared := c.owners.Share(spec, append(slices.Clone(owner.WhoseMaps), owner.ListenerChanges)...)
	spec.Maps[bpfMapTallies].MaxEntries = talliesPerProcess * spec.Maps[bpfMapProcesses].MaxEntries
	if c.maxTallies != 0 {
		spec.Maps[bpfMapTallies].MaxEntries = c.maxTallies
	}
	if c.places != 0 {
		spec.Maps[bpfMapPlaces].MaxEntries = c.places
	}
	err = errors.Join(c.owners.Tell(spec), spec.Variables[bpfVarBoundsUs].Set(boundsMicros()))
	if err != nil {
		return err
	}
	if c.object, err = kernel.Load(spec, hooks, shared); err != nil {
		return err
	}
	c.open = append(c.open, c.object)
	if c.gracePeriod, err = kernel.NewGracePeriod(); err != nil {
		return err
	}
	c.open = append(c.open, c.gracePeriod)
	return nil
}

// traced is the function by whose name the best hook is known. It is called when a connection ends.
const traced = "fentry/inet_unhash"

// The other functions that are traced with it. The second one is called only if both sides connect at the same time.
const (
	tracedToo  = "fentry/security_inet_conn_established"
	tracedBoth = "fentry/tcp_send_synack"
)

// ladder has the ways to see connects and ends, the best one first. The tracepoint fires at each change of the state of
// each connection, and functions are called only for what is of interest.
var ladder = []kernel.Hook{
	{Job: "connection", Name: traced, Programs: []string{bpfProgSeeEstablished, bpfProgSeeUnhash}},
	{Job: "connection", Name: "tp_btf/inet_sock_set_state", Programs: []string{bpfProgSeeChange}},
}

// chooseHooks returns the best hooks that probe does not refuse, with the programs that fit this kernel's tracepoints.
func chooseHooks(probe func(hook string) error) ([]kernel.Hook, error) {
	connection, err := kernel.Choose(kernel.Together(probe, traced, tracedToo, tracedBoth), ladder...)
	if err != nil {
		return nil, err
	}
	hooks := []kernel.Hook{connection}
	if connection.Name == traced {
		hooks = append(hooks, kernel.Hook{Job: "crossed_connect", Name: tracedBoth, Programs: []string{bpfProgSeeCrossing}, Cause: selftest.Receipts})
	}
	types, err := kernel.Types()
	if err != nil {
		return nil, err
	}
	arguments, err := kernel.TracepointArgs(types, "tcp_retransmit_skb")
	if err != nil {
		return nil, err
	}
	again := kernel.Hook{Job: "retransmit", Name: "tp_btf/tcp_retransmit_skb", Programs: []string{bpfProgSeeRetransmit}, Cause: selftest.Retransmit}
	if arguments > argumentsWithoutError {
		again.Programs = []string{bpfProgSeeRetransmitResult}
	}
	return append(hooks, again,
		kernel.Hook{Job: "answer_again", Name: "tp_btf/tcp_retransmit_synack", Programs: []string{bpfProgSeeAnswerAgain}, Cause: selftest.Retransmit}), nil
}

// argumentsWithoutError is how many arguments tcp_retransmit_skb has before Linux 6.17, which added the
// error.
const argumentsWithoutError = 2

func (c *Connections) hooks() []kernel.Hook { return append(c.object.Hooks(), c.owners.Hooks()...) }

// Enable implements [instrument.Instrument].
func (c *Connections) Enable() error {
	c.ledger, c.offered, c.ended = newLedger(c.clock.Now()), false, nil
	c.roster = owner.NewRoster(c.processes, c.builder)
	c.open = append(c.open, kernel.CloseFunc(func() { c.roster.KeepOnly(nil) }))
	return errors.Join(c.owners.Enable(), c.object.Enable())
}

// Collect implements [instrument.Instrument]. The result has a point of each series that has not ended,
// and the last point of each that has.
func (c *Connections) Collect(context.Context) (pmetric.Metrics, error) {
	c.offered = false
	s, err := c.read()
	if s == nil {
		return pmetric.NewMetrics(), fmt.Errorf("read connections: %w", err)
	}
	c.ledger.enter(s)
	err = errors.Join(err, c.makeRoom(s), c.forgetProcesses(s), c.updateStats(s))
	posted := c.ledger.post(s.now)
	c.roster.KeepOnly(membersOf(posted))
	c.offered = true
	emitter := emitter{builder: c.builder, host: c.processes.Host(c.builder.NewResourceBuilder())}
	return emitter.emit(s.now, posted), err
}

// Delivered implements [instrument.Deliverer].
func (c *Connections) Delivered() {
	if c.offered {
		c.ledger.delivered()
	}
}

// Shutdown implements [instrument.Instrument].
func (c *Connections) Shutdown(context.Context) error { return c.open.Close() }
