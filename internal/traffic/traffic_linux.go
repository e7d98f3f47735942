// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/places"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type direction -type account -type stat -type part -type share_of bpf ../../bpf/traffic.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var (
	_ instrument.Instrument[pmetric.Metrics] = (*Traffic)(nil)
	_ instrument.Deliverer                   = (*Traffic)(nil)
)

// Options is the configuration of the instrument.
type Options struct {
	RootPath      string         // where the host's / is mounted; "" is /
	AllNamespaces bool           // interface series of every network namespace, and not only the host's
	Transport     bool           // distinguish transports
	Type          bool           // distinguish IPv4 and IPv6
	Namespace     bool           // distinguish what a process moves in different network namespaces
	Places        *places.Places // that are started before the instrument; nil: none
}

// Traffic is the instrument. Its zero value is not usable: see [New].
type Traffic struct {
	builder    *metadata.MetricsBuilder
	owners     *owner.Owners
	interfaces *interfaces.Reader
	processes  *process.Directory
	clock      *clock.Clock
	recorder   *stats.Recorder
	options    Options
	object     *kernel.Object
	open       kernel.Closers
	cells      *cells
	quotas     quotas
	// limitOf has the number of entries that quotas are a part of, by map, if it differs from the
	// size of the map.
	limitOf     map[string]uint32
	gracePeriod *kernel.GracePeriod
	forwarding  bool // forwarded packets are claimed at once
	counters    *counters
	ledger      *ledger
	roster      *roster
	emitter     emitter
	rows        int      // number of entries in map traffic at the last read
	refused     bool     // what the last Collect returned was not taken
	arrived     []uint64 // packets that had arrived on each CPU at the last read
	survey      survey   // the last one
	peeking     *peeking // nil if Peek is not enabled
}

// New returns a Traffic that records into builder. It counts for the processes that owners knows,
// on the interfaces that the reader knows. Both must be started before it and shut down after it.
func New(builder *metadata.MetricsBuilder, owners *owner.Owners, interfaces *interfaces.Reader, processes *process.Directory,
	c *clock.Clock, b *stats.Recorder, options Options,
) *Traffic {
	return &Traffic{
		builder: builder, owners: owners, interfaces: interfaces, processes: processes, clock: c, recorder: b, options: options,
	}
}

// Start implements [instrument.Instrument].
func (t *Traffic) Start(ctx context.Context) error {
	if err := t.start(ctx); err != nil {
		return errors.Join(err, t.open.Close())
	}
	t.writeHooks()
	return nil
}

func (t *Traffic) start(ctx context.Context) error {
	if err := t.load(); err != nil {
		return fmt.Errorf("load traffic programs: %w", err)
	}
	if err := t.object.Start(ctx, t.options.RootPath); err != nil {
		return err
	}
	if t.forwarding = false; forwards(t.options.RootPath) {
		return t.claimForwarded()
	}
	return nil
}

// Enable implements [instrument.Instrument].
func (t *Traffic) Enable() error { return errors.Join(t.object.Enable(), t.openLedger()) }

// Collect implements [instrument.Instrument].
func (t *Traffic) Collect(context.Context) (pmetric.Metrics, error) {
	snapshot, err := t.read()
	if snapshot == nil {
		return pmetric.NewMetrics(), err
	}
	err = errors.Join(err, t.processes.FollowCgroups())
	t.roster.meet(snapshot.processes)
	departing := t.ledger.departing(snapshot)
	err = errors.Join(err, t.forgetProcesses(snapshot, departing))
	t.ledger.endings.refused, t.refused = t.refused, true // until it is delivered
	report := t.ledger.post(snapshot, departing)
	err = errors.Join(err, t.forgetInterfaces(snapshot), t.updateStats(snapshot, departing), t.ledger.endings.takeComplaint())
	metrics := t.emitter.emit(t.clock.Now(), report)
	t.roster.dismiss()
	if metrics.ResourceMetrics().Len() == 0 {
		t.Delivered() // there is nothing to deliver
	}
	return metrics, err
}

// Delivered implements [instrument.Deliverer].
func (t *Traffic) Delivered() {
	t.refused = false
	t.ledger.endings.delivered()
}

// Finish announces that the next Collect is the last one: all that is gone ends in it.
func (t *Traffic) Finish() { t.ledger.final = true }

// Shutdown implements [instrument.Instrument].
func (t *Traffic) Shutdown(context.Context) error { return t.open.Close() }

func (t *Traffic) load() error {
	types, err := kernel.Types()
	if err != nil {
		return err
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	hooks, err := t.configure(spec, types)
	if err != nil {
		return err
	}
	if err := t.owners.FitCPUs(spec, types); err != nil {
		return err
	}
	shared := t.owners.Maps()
	maps.Copy(shared, t.interfaces.Maps())
	if t.cells, err = openCells(shared[owner.Cells]); err != nil {
		return err
	}
	seats := t.options.Places.Seat(spec, hooks, map[string]places.Rank{places.Transmit: places.First, places.Arrival: places.First})
	maps.Copy(shared, seats.Maps)
	if t.object, err = kernel.Load(spec, seats.Hooks, shared); err != nil {
		return err
	}
	t.object.Follow(seats.Slots)
	t.open = append(t.open, t.object)
	if t.gracePeriod, err = kernel.NewGracePeriod(); err != nil {
		return err
	}
	t.open = append(t.open, t.gracePeriod)
	return nil
}

// hooks are the hooks that every kernel has, in the reverse order of a packet's way, so that no
// delivery is seen whose arrival could not have been.
var hooks = []kernel.Hook{
	{Job: "delivery", Name: "cgroup_skb/ingress", Programs: []string{bpfProgCountReceive}},
	{Job: "refusal", Name: "tp_btf/net_dev_xmit", Programs: []string{bpfProgEndTransmit}},
	{Job: "transmit", Name: "tp_btf/net_dev_start_xmit", Programs: []string{bpfProgCountTransmit}},
	{Job: "arrival", Name: "tp_btf/netif_receive_skb", Programs: []string{bpfProgCountArrival}},
	{Job: "forwarding", Name: "tp_btf/net_dev_queue", Programs: []string{bpfProgClaimForwarded}, Later: true},
}

// configure adapts the programs to the options and to the running kernel, and returns the hooks
// that they need.
func (t *Traffic) configure(spec *ebpf.CollectionSpec, types *btf.Spec) ([]kernel.Hook, error) {
	for name, replacement := range t.owners.Maps() {
		if m, ok := spec.Maps[name]; ok {
			m.MaxEntries = replacement.MaxEntries()
		}
	}
	reasons, err := kernel.DropReasons(types)
	if err != nil && !errors.Is(err, kernel.ErrUnsupported) {
		return nil, err
	}
	constants := map[string]any{
		bpfVarWithTransport: t.options.Transport,
		bpfVarWithType:      t.options.Type,
		bpfVarWithDetail:    t.options.Transport || t.options.Type,
	}
	var noSocket []kernel.Hook
	for number, name := range reasons { // there are no reasons before 5.17; such packets stay unclaimed then
		if name == "no_socket" {
			constants[bpfVarReasonNoSocket] = number
			noSocket = []kernel.Hook{{Job: "no_socket", Name: "tp_btf/kfree_skb", Programs: []string{bpfProgCountNoSocket}}}
		}
	}
	if err := t.owners.Tell(spec); err != nil {
		return nil, err
	}
	for name, value := range constants {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	return append(noSocket, hooks...), nil
}

// openLedger begins the accounts. What the interfaces had counted before does not belong to them.
func (t *Traffic) openLedger() error {
	var err error
	if t.counters, err = newCounters(); err != nil {
		return err
	}
	snapshot, err := t.read()
	if err != nil {
		return err
	}
	host, err := t.interfaces.Host()
	if err != nil {
		return err
	}
	t.refused = false
	t.peeking.begin()
	t.roster = newRoster(t.processes, t.builder)
	t.open = append(t.open, kernel.CloseFunc(t.peeking.end), kernel.CloseFunc(t.roster.close))
	t.ledger = newLedger(snapshot.now, host, t.options.AllNamespaces, t.roster.identityOf)
	t.ledger.withNamespace = t.options.Namespace
	t.emitter = emitter{
		builder: t.builder, speak: t.roster.speak, withTransports: t.options.Transport, withTypes: t.options.Type,
		start: t.clock.Wall(snapshot.now), boot: snapshot.now,
	}
	t.ledger.begin(snapshot, t.counters.processless(snapshot))
	return t.updateStats(snapshot, nil)
}

func (t *Traffic) writeHooks() {
	t.recorder.Update(func(totals *stats.Totals) { totals.Hooks = t.hooks() })
}

func (t *Traffic) hooks() []kernel.Hook { return append(t.owners.Hooks(), t.object.Hooks()...) }
