package traffic

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type direction -type account -type book bpf ../../bpf/traffic.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var _ instrument.Instrument[pmetric.Metrics] = (*Traffic)(nil)

// Options are what the configuration says of the instrument.
type Options struct {
	RootPath      string // where the host's / is mounted; "" is /
	AllNamespaces bool   // interface series of every network namespace, not only the host's
	Transport     bool   // tell transports apart
	Type          bool   // tell IPv4 from IPv6
}

// Traffic is the instrument. Its zero value is not usable: see [New].
type Traffic struct {
	builder    *metadata.MetricsBuilder
	owners     *owner.Owners
	processes  *process.Directory
	clock      *clock.Clock
	books      *books.Books
	options    Options
	collection *ebpf.Collection
	open       kernel.Closers
	counters   *counters
	ledger     *ledger
	emitter    emitter
	followed   map[uint64]bool // processes that have changed, by number
	epoch      uint64
	arrived    []uint64 // packets on each CPU, when they were last read
}

// New returns a Traffic that records into builder. It counts for the processes
// that owners knows, so owners must be started before it and shut down after it.
func New(builder *metadata.MetricsBuilder, owners *owner.Owners, processes *process.Directory,
	c *clock.Clock, b *books.Books, options Options,
) *Traffic {
	return &Traffic{builder: builder, owners: owners, processes: processes, clock: c, books: b, options: options}
}

// Start implements [instrument.Instrument].
func (t *Traffic) Start(ctx context.Context) error {
	if err := t.load(); err != nil {
		return errors.Join(fmt.Errorf("load traffic programs: %w", err), t.Shutdown(ctx))
	}
	if err := t.attach(); err != nil {
		return errors.Join(err, t.Shutdown(ctx))
	}
	if err := t.openLedger(); err != nil {
		return errors.Join(err, t.Shutdown(ctx))
	}
	return nil
}

// Collect implements [instrument.Instrument].
func (t *Traffic) Collect(context.Context) (pmetric.Metrics, error) {
	snapshot, err := t.read()
	if snapshot == nil {
		return pmetric.NewMetrics(), err
	}
	departing := t.ledger.departing(snapshot)
	err = errors.Join(err, t.forgetProcesses(snapshot, departing))
	report := t.ledger.post(snapshot, departing)
	err = errors.Join(err, t.forgetInterfaces(snapshot), t.writeBooks(snapshot))
	return t.emitter.emit(t.clock.Now(), report), err
}

// Shutdown implements [instrument.Instrument].
func (t *Traffic) Shutdown(context.Context) error {
	t.collection = nil
	return t.open.Close()
}

func (t *Traffic) load() error {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	if err := t.configure(spec, types); err != nil {
		return err
	}
	t.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: t.owners.Maps()})
	if err != nil {
		return kernel.Explain(err, spec)
	}
	t.open = append(t.open, kernel.CloseFunc(t.collection.Close))
	t.followed = make(map[uint64]bool)
	t.epoch = 1
	return nil
}

// configure fits the programs to the options and to the running kernel.
func (t *Traffic) configure(spec *ebpf.CollectionSpec, types *btf.Spec) error {
	for name, replacement := range t.owners.Maps() {
		if m, ok := spec.Maps[name]; ok {
			m.MaxEntries = replacement.MaxEntries()
		}
	}
	if err := spec.Variables["with_transport"].Set(t.options.Transport); err != nil {
		return err
	}
	if err := spec.Variables["with_type"].Set(t.options.Type); err != nil {
		return err
	}
	reasons, err := kernel.DropReasons(types)
	if errors.Is(err, kernel.ErrUnsupported) {
		delete(spec.Programs, "count_no_socket") // before 5.17: such packets stay unclaimed
		return nil
	}
	if err != nil {
		return err
	}
	for number, name := range reasons {
		if name == "no_socket" {
			return spec.Variables["reason_no_socket"].Set(number)
		}
	}
	return nil
}

// attach goes against the way of a packet: a delivery is never seen without its
// arrival being expected.
func (t *Traffic) attach() error {
	cgroup, err := kernel.CgroupRoot(t.options.RootPath)
	if err != nil {
		return err
	}
	ingress, err := kernel.AttachCgroup(cgroup, t.collection.Programs["count_receive"], ebpf.AttachCGroupInetIngress)
	if err != nil {
		return err
	}
	t.open = append(t.open, ingress)
	for _, name := range []string{"count_no_socket", "undo_transmit", "count_transmit", "count_arrival"} {
		program, ok := t.collection.Programs[name]
		if !ok {
			continue
		}
		links, err := kernel.Attach(program)
		if err != nil {
			return err
		}
		t.open = append(t.open, &links)
	}
	return nil
}

// openLedger starts the books: what the interfaces had counted before is not ours.
func (t *Traffic) openLedger() error {
	var err error
	if t.counters, err = newCounters(); err != nil {
		return err
	}
	snapshot, err := t.read()
	if err != nil {
		return err
	}
	var host uint32
	if err := t.collection.Variables["host_netns_inode"].Get(&host); err != nil {
		return fmt.Errorf("find the host's network namespace: %w", err)
	}
	t.ledger = newLedger(snapshot.now, host, t.options.AllNamespaces)
	t.emitter = emitter{builder: t.builder, describe: t.processes.Describe, start: t.clock.Wall(snapshot.now), boot: snapshot.now}
	t.ledger.begin(snapshot, t.counters.processless(snapshot))
	return t.writeBooks(snapshot)
}

func (t *Traffic) hooks() map[string]string {
	hooks := map[string]string{"transmit": "net_dev_start_xmit", "arrival": "netif_receive_skb", "delivery": "cgroup_skb/ingress"}
	if _, ok := t.collection.Programs["count_no_socket"]; ok {
		hooks["no_socket"] = "kfree_skb"
	}
	for job, hook := range t.owners.Hooks() {
		hooks[job] = hook
	}
	return hooks
}
