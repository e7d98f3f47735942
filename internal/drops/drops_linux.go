// Package drops counts the packets that the kernel discards, by the function
// that did it and the reason it gave. Kernel side: bpf/drops.bpf.c.
package drops

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
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
	contexts  *tracecontext.Contexts
	options   Options

	maxKeys, maxCoarse uint32 // of the kernel maps; 0 is as in bpf/drops.bpf.c

	object   *kernel.Object
	counting string // the program that counts what kfree_skb reports
	words    words

	symbols     *kernel.Symbols // nil: none are kept
	symbolsRead time.Time
}

// New returns a Drops that reports through builder and keeps its account in b.
// contexts are started before it and may be nil.
func New(builder *metadata.MetricsBuilder, contexts *tracecontext.Contexts, processes *process.Directory,
	c *clock.Clock, b *books.Books, options Options,
) *Drops {
	return &Drops{builder: builder, contexts: contexts, processes: processes, clock: c, books: b, options: options}
}

// Start implements [instrument.Instrument].
func (d *Drops) Start(ctx context.Context) error {
	if err := d.load(); err != nil {
		return fmt.Errorf("load drops programs: %w", err)
	}
	if err := errors.Join(d.object.Attach(d.options.RootPath), d.object.Prove(ctx)); err != nil {
		return errors.Join(err, d.object.Close())
	}
	d.books.Update(func(page *books.Page) { *page = books.Page{Hooks: d.object.Hooks()} })
	return nil
}

// Begin implements [instrument.Instrument].
func (d *Drops) Begin() error {
	d.builder.Reset(metadata.WithStartTime(pcommon.NewTimestampFromTime(d.clock.Now())))
	if err := d.object.Arm(); err != nil {
		return err
	}
	_, err := d.read()
	return err
}

// Shutdown implements [instrument.Instrument].
func (d *Drops) Shutdown(context.Context) error {
	if d.object == nil {
		return nil
	}
	err := d.object.Close()
	d.object = nil
	return err
}

// Collect implements [instrument.Instrument]. Every series it has ever returned
// is in what it returns, with the packets since Start.
func (d *Drops) Collect(context.Context) (pmetric.Metrics, error) {
	counts, err := d.read()
	if err != nil {
		return pmetric.NewMetrics(), fmt.Errorf("read drops: %w", err)
	}
	now := d.clock.Now()
	exemplars, exemplarErr := d.takeExemplars()
	err = errors.Join(d.learnFunctions(counts), exemplarErr)
	resource := d.processes.Host(d.builder.NewResourceBuilder())
	return emit(d.builder, resource, now, d.clock.Wall, bySeries(counts, exemplars, d.words)), err
}
