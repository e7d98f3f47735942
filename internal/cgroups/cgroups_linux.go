package cgroups

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/process"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/cgroups.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

var _ process.CgroupWatch = (*Cgroups)(nil)

// Cgroups is the watch of one receiver. It is used by several instruments: the first
// that starts it does, and the last that shuts it down. Its zero value is not usable:
// see [New].
type Cgroups struct {
	avoidHooks []string
	ringBytes  int // size of the ring; 0 leaves what the kernel side says

	books *books.Books

	mu      sync.Mutex
	users   int
	begun   bool
	object  *kernel.Object // nil: it is not started, or this kernel has no such hooks
	ring    *ringbuf.Reader
	open    kernel.Closers
	corrupt uint64 // records that made no sense, since Start
	lost    uint64 // changes that were lost until the last audit
}

// New returns Cgroups that are not started; avoidHooks is as in [kernel.Avoiding].
func New(avoidHooks []string, b *books.Books) *Cgroups {
	return &Cgroups{avoidHooks: avoidHooks, books: b}
}

// hooks take what removes a cgroup first, so that none is taken for present that is gone.
var hooks = []kernel.Hook{
	{Job: "cgroup_removed", Name: "tp_btf/cgroup_rmdir", Programs: []string{"note_removed"}, Cause: kernel.CauseCgroup},
	{Job: "cgroup_made", Name: "tp_btf/cgroup_mkdir", Programs: []string{"note_new"}, Cause: kernel.CauseCgroup},
}

// notSeen is what is not seen without them.
const notSeen = "the cgroup, and so the container, of a process that is gone together with its cgroup before anybody looks"

// Start loads the programs, attaches them and sees that they run. Where they cannot,
// the books say so, and it is no error: who asks for a path walks.
func (c *Cgroups) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users++; c.users > 1 {
		return nil
	}
	c.corrupt, c.lost = 0, 0
	used, err := c.start(ctx)
	if err != nil {
		err = errors.Join(err, c.close())
		used = []kernel.Hook{{Job: "cgroup_made", Name: "none", NotSeen: notSeen, Refused: []string{err.Error()}}}
	}
	c.books.Update(func(page *books.Page) { *page = books.Page{Hooks: used} })
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
		spec.Maps["cgroup_changes"].MaxEntries = uint32(c.ringBytes)
	}
	if c.object, err = kernel.Load(spec, hooks, nil); err != nil {
		return nil, fmt.Errorf("load cgroup programs: %w", err)
	}
	c.open = append(c.open, c.object)
	if c.ring, err = ringbuf.NewReader(c.object.Maps["cgroup_changes"]); err != nil {
		return nil, fmt.Errorf("open ring: %w", err)
	}
	c.open = append(c.open, c.ring)
	err = errors.Join(c.object.Attach(""), c.object.Prove(ctx))
	return c.object.Hooks(), err
}

// Begin lets the programs tell of changes.
func (c *Cgroups) Begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun || c.object == nil {
		return nil
	}
	c.begun = true
	return c.object.Arm()
}

// Shutdown detaches the programs and frees them when nobody uses them any more.
func (c *Cgroups) Shutdown(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == 0 {
		return nil
	}
	if c.users--; c.users > 0 {
		return nil
	}
	return c.close()
}

// close leaves nothing in the kernel.
func (c *Cgroups) close() error {
	c.begun, c.object, c.ring = false, nil, nil
	return c.open.Close()
}

// Changes implements [process.CgroupWatch].
func (c *Cgroups) Changes(visit func(process.CgroupChange)) (whole bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun {
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

// audit brings the books up to date, and returns whether nothing was lost since the
// last time.
func (c *Cgroups) audit() (whole bool, err error) {
	counts, err := kernel.ReadBooks(c.object.Maps["books"])
	if err != nil {
		return false, err
	}
	missed, err := c.object.MissedRuns()
	if err != nil {
		return false, err
	}
	ringFull, unreadable := counts[bpfBookBOOK_LOST_RING_FULL], counts[bpfBookBOOK_LOST_UNREADABLE]+c.corrupt
	before := c.lost
	c.lost = ringFull + unreadable + missed
	c.books.Update(func(page *books.Page) {
		page.Seen = counts[bpfBookBOOK_SEEN] + missed
		page.Aggregated = page.Seen - c.lost
		page.Hooks = c.object.Hooks()
		page.Lost = map[string]uint64{"ring_full": ringFull, "unreadable": unreadable, "preempted": missed}
	})
	return c.lost == before, nil
}
