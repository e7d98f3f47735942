// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/cgroups.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var _ process.CgroupWatch = (*Cgroups)(nil)

// Cgroups is the watch of one receiver. Several instruments use it: it is started with the first
// and shut down with the last. Its zero value is not usable: see [New].
type Cgroups struct {
	avoidHooks []string
	ringBytes  int // size of the ring; 0 keeps the size that the kernel side has

	recorder *stats.Recorder

	mu         sync.Mutex
	references int
	enabled    bool
	object     *kernel.Object // nil if it is not started, or if this kernel has no such hooks
	ring       *ringbuf.Reader
	open       kernel.Closers
	corrupt    uint64 // malformed records, since Start
	lost       uint64 // changes that were lost up to the last audit
}

// New returns Cgroups that are not started. avoidHooks are those of [kernel.Avoiding].
func New(avoidHooks []string, b *stats.Recorder) *Cgroups {
	return &Cgroups{avoidHooks: avoidHooks, recorder: b}
}

// hooks has the hook for removed cgroups first, so that no cgroup that is gone is taken for an
// existing one.
var hooks = []kernel.Hook{
	{Job: "cgroup_removed", Name: "tp_btf/cgroup_rmdir", Programs: []string{bpfProgNoteRemoved}, Cause: selftest.Cgroup},
	{Job: "cgroup_made", Name: "tp_btf/cgroup_mkdir", Programs: []string{bpfProgNoteNew}, Cause: selftest.Cgroup},
}

// notSeen is what is not seen without the hooks.
const notSeen = "the cgroup, and so the container, of a process that is gone together with its cgroup before anybody looks"

// Start loads the programs, attaches them and checks that they run. If they cannot run, the hooks
// in use tell so, and it is not an error: the paths of cgroups are then found by walks.
func (c *Cgroups) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.references++; c.references > 1 {
		return nil
	}
	c.corrupt, c.lost = 0, 0
	used, err := c.start(ctx)
	if err != nil {
		err = errors.Join(err, c.close())
		used = []kernel.Hook{{Job: "cgroup_made", Name: "none", NotSeen: notSeen, Refused: []string{err.Error()}}}
	}
	c.recorder.Update(func(totals *stats.Totals) { *totals = stats.Totals{Hooks: used} })
	return nil
}

func (c *Cgroups) start(ctx context.Context) ([]kernel.Hook, error) {
	probe := kernel.Avoiding(c.avoidHooks, kernel.Probe)
	for _, hook := range hooks {
		if err := probe(hook.Name); err != nil {
			return nil, err
		}
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	if c.ringBytes != 0 {
		spec.Maps[bpfMapCgroupChanges].MaxEntries = uint32(c.ringBytes)
	}
	if c.object, err = kernel.Load(spec, hooks, nil); err != nil {
		return nil, fmt.Errorf("load cgroup programs: %w", err)
	}
	c.open = append(c.open, c.object)
	if c.ring, err = ringbuf.NewReader(c.object.Maps[bpfMapCgroupChanges]); err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	c.open = append(c.open, c.ring)
	if err := c.object.Start(ctx, ""); err != nil {
		return nil, err
	}
	return c.object.Hooks(), nil
}

// Enable lets the programs report changes.
func (c *Cgroups) Enable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.enabled || c.object == nil {
		return nil
	}
	c.enabled = true
	return c.object.Enable()
}

// Shutdown detaches the programs and frees them when no instrument uses them any more.
func (c *Cgroups) Shutdown(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.references == 0 {
		return nil
	}
	if c.references--; c.references > 0 {
		return nil
	}
	return c.close()
}

// close removes everything from the kernel.
func (c *Cgroups) close() error {
	c.enabled, c.object, c.ring = false, nil, nil
	return c.open.Close()
}

// Changes implements [process.CgroupWatch].
func (c *Cgroups) Changes(visit func(process.CgroupChange)) (whole bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.enabled {
		return false, nil
	}
	err = kernel.DrainOnce(c.ring, func(record []byte) error {
		change, err := decode(record)
		if err != nil {
			c.corrupt++
			return err
		}
		visit(change)
		return nil
	})
	whole, audited := c.audit()
	return whole, errors.Join(err, audited)
}

// audit updates the counts, and returns whether nothing was lost since the previous audit.
func (c *Cgroups) audit() (whole bool, err error) {
	counts, err := kernel.ReadCounts(c.object.Maps[bpfMapStats])
	if err != nil {
		return false, err
	}
	missed, err := c.object.MissedRuns()
	if err != nil {
		return false, err
	}
	ringFull, unreadable := counts[bpfStatSTAT_LOST_RING_FULL], counts[bpfStatSTAT_LOST_UNREADABLE]+c.corrupt
	before := c.lost
	c.lost = ringFull + unreadable + missed
	c.recorder.Update(func(totals *stats.Totals) {
		totals.Seen = counts[bpfStatSTAT_SEEN] + missed
		totals.Aggregated = totals.Seen - c.lost
		totals.Hooks = c.object.Hooks()
		totals.Lost = map[string]uint64{"ring_full": ringFull, "unreadable": unreadable, "preempted": missed}
	})
	return c.lost == before, nil
}
