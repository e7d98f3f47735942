// SPDX-License-Identifier: Apache-2.0

// Package closings reports how TCP connections ended: how long they lasted, what they transferred,
// and which side closed them. Kernel side: bpf/closings.bpf.c.
package closings

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/stats"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/closings.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// Closings observes the ends of connections. Its zero value is not usable: see [New]. Methods that
// may be called on nil say so.
type Closings struct {
	avoid   []string
	places  int // how many connections have a place of their own; 0 keeps the number that the kernel side has
	object  *kernel.Object
	ring    *ringbuf.Reader
	open    kernel.Closers
	corrupt uint64
}

// New returns Closings that are not started. avoidHooks are those of [kernel.Avoiding].
func New(avoidHooks []string) *Closings { return &Closings{avoid: avoidHooks} }

// traced is the function by whose name the best hook is known. It is called when a connection ends.
const traced = "fentry/inet_unhash"

// ladder has the ways to see ends, the best one first. The tracepoint fires at each change of the state of each
// connection, of which there are about five, and functions are called only for what is of interest.
var ladder = []kernel.Hook{
	{Job: "connection_end", Name: traced, Programs: []string{bpfProgSeeConnect, bpfProgSeeEstablished, bpfProgSeeUnhash}},
	{Job: "connection_end", Name: "tp_btf/inet_sock_set_state", Programs: []string{bpfProgSeeState}},
}

// probing returns a probe that refuses functions unless all of them can be traced, and the programs that belong to
// them can be loaded: they compare and exchange, which is possible since Linux 5.12.
func probing(probe func(hook string) error, types *btf.Spec) func(hook string) error {
	probe = kernel.Together(probe, traced, "fentry/tcp_connect", "fentry/security_inet_conn_established")
	return func(hook string) error {
		if hook == traced && !kernel.HasHelper(types, "check_mtu") {
			return fmt.Errorf("%s: Linux is older than 5.12: %w", hook, kernel.ErrUnsupported)
		}
		return probe(hook)
	}
}

// Start loads the programs, attaches them and checks that they run.
func (c *Closings) Start(ctx context.Context) error {
	if err := c.load(); err != nil {
		return errors.Join(fmt.Errorf("load closings programs: %w", err), c.Shutdown())
	}
	if err := c.object.Start(ctx, ""); err != nil {
		return errors.Join(err, c.Shutdown())
	}
	return nil
}

func (c *Closings) load() error {
	types, err := kernel.Types()
	if err != nil {
		return err
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	hook, err := kernel.Choose(probing(kernel.Avoiding(c.avoid, kernel.Probe), types), ladder...)
	if err != nil {
		return err
	}
	if hook.Name != traced {
		c.places = 1 // the tracepoint does not use them
	}
	if c.places != 0 {
		spec.Maps[bpfMapPlaces].MaxEntries = uint32(c.places)
	}
	if c.object, err = kernel.Load(spec, []kernel.Hook{hook}, nil); err != nil {
		return err
	}
	c.open = append(c.open, c.object)
	c.ring, err = ringbuf.NewReader(c.object.Maps[bpfMapClosings])
	if err != nil {
		return fmt.Errorf("open ring: %w", err)
	}
	c.open = append(c.open, c.ring)
	return nil
}

// Enable lets the programs record connections. It may be called on nil.
func (c *Closings) Enable() error {
	if c == nil {
		return nil
	}
	return c.object.Enable()
}

// Shutdown detaches the programs and frees them. It may be called on nil, and more than once.
func (c *Closings) Shutdown() error {
	if c == nil {
		return nil
	}
	return c.open.Close()
}

// Hooks returns the hook in use.
func (c *Closings) Hooks() []kernel.Hook { return c.object.Hooks() }

// Read returns the connections that have ended, in the order in which they did. It may be called
// on nil.
func (c *Closings) Read() ([]Closing, error) {
	if c == nil {
		return nil, nil
	}
	var ended []Closing
	err := kernel.DrainOnce(c.ring, func(record []byte) error {
		closing, err := decode(record)
		if err != nil {
			c.corrupt++
			return err
		}
		ended = append(ended, closing)
		return nil
	})
	return ended, err
}

// Stats returns how many ends of connections were seen since Start, and lost. It may be called on
// nil.
func (c *Closings) Stats() (stats.Events, error) {
	if c == nil {
		return stats.Events{}, nil
	}
	return stats.ReadEvents(c.object, c.object.Maps[bpfMapStats], func(counts []uint64) stats.Events {
		return stats.Events{
			Seen: counts[bpfStatSTAT_SEEN], RingFull: counts[bpfStatSTAT_LOST_RING_FULL],
			MapFull: counts[bpfStatSTAT_LOST_MAP_FULL], Unreadable: c.corrupt + counts[bpfStatSTAT_LOST_UNREADABLE],
		}
	})
}
