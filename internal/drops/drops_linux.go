// Package drops counts the packets that the kernel discards, by the function
// that did it and the reason it gave. Kernel side: bpf/drops.bpf.c.
package drops

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/drops.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// Options are what an operator can choose.
type Options struct {
	// RootPath is where the host's / is mounted, as in [kernel.CgroupRoot].
	RootPath string
}

// Drops is the instrument. Its zero value is not usable: see [New].
type Drops struct {
	builder   *metadata.MetricsBuilder
	processes *process.Directory
	clock     *clock.Clock
	books     *books.Books
	options   Options

	maxKeys, maxCoarse uint32 // of the kernel maps; 0 is as in bpf/drops.bpf.c

	objects objects
	open    kernel.Closers
	words   words
}

// objects are the programs and maps of one start: of the programs that count
// what kfree_skb reports, the one that fits this kernel.
type objects struct {
	CountDrop      *ebpf.Program `ebpf:"count_drop"`
	WatchListeners *ebpf.Program `ebpf:"watch_listeners"`
	Drops          *ebpf.Map     `ebpf:"drops"`
	WithoutDetail  *ebpf.Map     `ebpf:"drops_without_detail"`
	Books          *ebpf.Map     `ebpf:"books"`
}

// Close implements [io.Closer].
func (o *objects) Close() error {
	return errors.Join(o.CountDrop.Close(), o.WatchListeners.Close(), o.Drops.Close(), o.WithoutDetail.Close(), o.Books.Close())
}

// New returns a Drops that reports through builder and keeps its account in b.
func New(builder *metadata.MetricsBuilder, processes *process.Directory, c *clock.Clock, b *books.Books, options Options) *Drops {
	return &Drops{builder: builder, processes: processes, clock: c, books: b, options: options}
}

// Start implements [instrument.Instrument].
func (d *Drops) Start(context.Context) error {
	variant, err := d.load()
	if err != nil {
		return fmt.Errorf("load drops programs: %w", err)
	}
	d.open = append(d.open, &d.objects)
	d.builder.Reset(metadata.WithStartTime(pcommon.NewTimestampFromTime(d.clock.Now())))
	if err := d.attach(); err != nil {
		return errors.Join(err, d.open.Close())
	}
	d.books.Update(func(page *books.Page) {
		*page = books.Page{Hooks: map[string]string{"drop": "tp_btf/kfree_skb " + variant, "listen_overflow": "cgroup_skb/ingress"}}
	})
	if _, err := d.read(); err != nil {
		return errors.Join(err, d.open.Close())
	}
	return nil
}

// Shutdown implements [instrument.Instrument].
func (d *Drops) Shutdown(context.Context) error { return d.open.Close() }

// Collect implements [instrument.Instrument]. Every series it has ever returned
// is in what it returns, with the packets since Start.
func (d *Drops) Collect(context.Context) (pmetric.Metrics, error) {
	counts, err := d.read()
	if err != nil {
		return pmetric.NewMetrics(), fmt.Errorf("read drops: %w", err)
	}
	now := d.clock.Now()
	err = d.learnFunctions(counts)
	resource := d.processes.Host(d.builder.NewResourceBuilder())
	return emit(d.builder, resource, now, bySeries(counts, d.words)), err
}

func (d *Drops) attach() error {
	root, err := kernel.CgroupRoot(d.options.RootPath)
	if err != nil {
		return err
	}
	listeners, err := kernel.AttachCgroup(root, d.objects.WatchListeners, ebpf.AttachCGroupInetIngress)
	if err != nil {
		return err
	}
	d.open = append(d.open, listeners)
	links, err := kernel.Attach(d.objects.CountDrop)
	d.open = append(d.open, &links)
	return err
}
