// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type node_flag -type wait -type reason -type socket_wait -type wait_flag -type path_end -type stat -type share_of bpf ../../bpf/calls.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var _ instrument.Instrument[ptrace.Traces] = (*Calls)(nil)

// Calls is the instrument. Its zero value is not usable: see [New].
type Calls struct {
	emitter   emitter
	processes *process.Directory
	recorder  *stats.Recorder
	contexts  *tracecontext.Contexts
	options   Options
	ringBytes int // size of the ring; 0: the default of the BPF object
	ownPID    int // the process whose calls are left out
	bootNow   func() uint64

	mu         sync.Mutex
	references int  // how many instruments use the BPF programs
	started    bool // this instrument uses them
	seesWaits  bool

	object    *kernel.Object
	ring      *ringbuf.Reader
	open      kernel.Closers
	cgroups   map[uint64]bool    // the ids of cgroups in the filter
	cgroupsAt uint64             // the version of the directory's cgroups from which they are; 0: none yet
	places    *ebpf.VariableSpec // of threads, in the BPF programs
	threads   *io.SectionReader  // the places themselves, of which each is a bpfThread
	corrupt   uint64             // how many records could not be decoded
	filters   uint32             // how often the filters were set

	names        kernel.FunctionNames
	namesMissing error // why functions of stacks could not be named in this collection
}

// New returns a Calls whose spans have resources with the given attributes and a
// scope of the given version. contexts are started before it and may be nil.
func New(resource metadata.ResourceAttributesConfig, version string, contexts *tracecontext.Contexts, processes *process.Directory,
	c *clock.Clock, b *stats.Recorder, options Options,
) *Calls {
	e := emitter{
		resource: resource, version: version, ratio: options.SampleRatio,
		describe: processes.Describe, service: contexts.Service, wall: c.Wall, ids: newIDs(),
	}
	calls := &Calls{
		emitter: e, processes: processes, recorder: b, contexts: contexts, options: options, ownPID: os.Getpid(),
		bootNow: func() uint64 { return c.BootNanos(c.Now()) },
	}
	calls.emitter.stack = calls.stack
	return calls
}

// Start implements [instrument.Instrument].
func (c *Calls) Start(ctx context.Context) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	c.started = true
	c.recorder.Update(func(totals *stats.Totals) { *totals = stats.Totals{Hooks: c.object.Hooks()} })
	return nil
}

// acquire loads and attaches the BPF programs, unless the other instrument has done so.
func (c *Calls) acquire(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.references == 0 {
		if err := c.start(ctx); err != nil {
			return errors.Join(err, c.open.Close())
		}
	}
	c.references++
	return nil
}

// release closes the BPF programs, unless the other instrument still uses them.
func (c *Calls) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.references--; c.references > 0 {
		return nil
	}
	return c.open.Close()
}

func (c *Calls) start(ctx context.Context) error {
	if err := c.load(); err != nil {
		return fmt.Errorf("load calls programs: %w", err)
	}
	return c.object.Start(ctx, c.options.RootPath)
}

// Enable implements [instrument.Instrument].
func (c *Calls) Enable() error {
	if err := c.object.Variables[bpfVarWithReader].Set(true); err != nil {
		return fmt.Errorf("say that the ring is read: %w", err)
	}
	return c.object.Enable()
}

// Collect implements [instrument.Instrument].
func (c *Calls) Collect(context.Context) (ptrace.Traces, error) {
	calls, err := c.drain()
	err = errors.Join(err, c.processes.FollowCgroups())
	c.namesMissing = nil
	traces := c.emitter.emit(calls)
	return traces, errors.Join(err, c.namesMissing, c.refreshCgroups(), c.Audit())
}

// stack returns the functions of a stack, innermost first, each on a line of its own; "" if their names cannot be read.
func (c *Calls) stack(addresses []uint64) string {
	functions := kernel.Stack(addresses, c.names.Locator(&c.namesMissing))
	if c.namesMissing != nil {
		return ""
	}
	return strings.Join(functions, "\n")
}

// Shutdown implements [instrument.Instrument].
func (c *Calls) Shutdown(context.Context) error {
	if !c.started {
		return nil
	}
	c.started = false
	return errors.Join(c.object.Variables[bpfVarWithReader].Set(false), c.release())
}

// drain returns the calls that are in the ring. It reads at most as many bytes as the ring has, so
// that it ends even if new records come all the time.
func (c *Calls) drain() ([]call, error) {
	var calls []call
	err := kernel.DrainOnce(c.ring, func(record []byte) error {
		call, err := decode(record, len(c.emitter.functions))
		if err != nil {
			c.corrupt++
			return err
		}
		calls = append(calls, call)
		return nil
	})
	return calls, err
}

// Audit brings the recorder's counts up to date. It does not read the ring: calls that are in it
// count as seen, and not as exported yet.
func (c *Calls) Audit() error {
	counts, err := kernel.ReadCounts(c.object.Maps[bpfMapStats])
	if err != nil {
		return err
	}
	plain, err := c.sampledOut()
	if err != nil {
		return err
	}
	counts[bpfStatSTAT_SAMPLED_OUT] += plain
	limited, err := c.rateLimited()
	if err != nil {
		return err
	}
	missed, err := c.object.MissedRuns()
	if err != nil {
		return err
	}
	var unmeasured uint64
	if err := c.object.Variables[bpfVarUnmeasured].Get(&unmeasured); err != nil {
		return fmt.Errorf("read how many calls were not measured: %w", err)
	}
	c.recorder.Update(func(totals *stats.Totals) {
		totals.MissedRuns, totals.Unmeasured = missed, unmeasured
		totals.Hooks = c.object.Hooks()
		totals.Seen = counts[bpfStatSTAT_SEEN] + counts[bpfStatSTAT_SAMPLED_OUT] // a call is in only one of these counts
		totals.SampledOut = counts[bpfStatSTAT_SAMPLED_OUT]
		totals.RateLimited = map[string]uint64{}
		for reason, name := range keptNames {
			totals.RateLimited[name] = limited[reason]
			totals.Seen += limited[reason]
		}
		if totals.Lost == nil {
			totals.Lost = map[string]uint64{}
		}
		totals.Lost["ring_full"] = counts[bpfStatSTAT_LOST_RING_FULL]
		totals.Lost["map_full"] = counts[bpfStatSTAT_LOST_MAP_FULL]
		totals.Lost["unfinished"] = counts[bpfStatSTAT_LOST_UNFINISHED]
		totals.Lost["unreadable"] = c.corrupt
	})
	return nil
}

// sampledOut returns how many calls have ended without a record and have never had a tree. Each thread
// counts its own.
func (c *Calls) sampledOut() (total uint64, err error) {
	const place, count = int64(unsafe.Sizeof(bpfThread{})), int64(unsafe.Offsetof(bpfThread{}.SampledOut))
	var counted [8]byte
	for at := int64(0); at < c.threads.Size(); at += place {
		if _, err := c.threads.ReadAt(counted[:], at+count); err != nil {
			return 0, fmt.Errorf("read what threads have counted: %w", err)
		}
		total += binary.NativeEndian.Uint64(counted[:])
	}
	return total, nil
}

// rateLimited returns how many calls were left out because of max_per_second, by the reason for
// which they would have been reported.
func (c *Calls) rateLimited() (limited [bpfReasonREASON_SAMPLED + 1]uint64, err error) {
	if err := c.object.Variables[bpfVarRateLimited].Get(&limited); err != nil {
		return limited, fmt.Errorf("read what was left out: %w", err)
	}
	return limited, nil
}
