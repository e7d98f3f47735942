// SPDX-License-Identifier: Apache-2.0

// Package places lets programs of two objects run at one tracepoint at the cost of reaching one. Kernel
// side: bpf/places.bpf.c.
package places

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type rank bpf ../../bpf/places.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// Rank says which of the two programs of a place runs first.
type Rank = bpfRank

// The ranks at a place.
const (
	First  Rank = bpfRankFIRST
	Second Rank = bpfRankSECOND
)

// The tracepoints that can be places, as sections of programs.
const (
	Send     = "tp_btf/sock_send_length"
	Receive  = "tp_btf/sock_recv_length"
	Transmit = "tp_btf/net_dev_start_xmit"
	Arrival  = "tp_btf/netif_receive_skb"
	Exit     = "tp_btf/sys_exit"
)

var all = []struct{ section, program, slots string }{
	{Send, bpfProgReachAtSend, bpfMapAtSend},
	{Receive, bpfProgReachAtReceive, bpfMapAtReceive},
	{Transmit, bpfProgReachAtTransmit, bpfMapAtTransmit},
	{Arrival, bpfProgReachAtArrival, bpfMapAtArrival},
	{Exit, bpfProgReachAtExit, bpfMapAtExit},
}

// Places are the places that the instruments of a receiver share. They are started with the first of these and shut down with the
// last, and in between each of these is started and shut down at any time. A nil Places has none. The zero value is not usable: see
// [New].
type Places struct {
	choose func() ([]string, error)

	mu         sync.Mutex
	references int
	sections   []string // of the places
	object     *kernel.Object
	heads      map[string]head // by section
	kept       kernel.Closers  // what stays attached until the places are shut down
}

// head is what is attached at a place.
type head int

const (
	none    head = iota
	reaches      // the program that jumps to the others and does nothing else
	leads        // the first one, which jumps to the second
)

// New returns Places that are not started. At their start choose says at which tracepoints there are programs of two objects.
func New(choose func() ([]string, error)) *Places { return &Places{choose: choose} }

// Start loads the programs that jump to others. Each is attached when it is needed: if the first program of a place comes before the
// second, it is attached itself.
func (p *Places) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.references == 0 {
		if err := p.start(); err != nil {
			return fmt.Errorf("make places for programs: %w", err)
		}
	}
	p.references++
	return nil
}

func (p *Places) start() error {
	types, err := kernel.Types()
	if err != nil {
		return err
	}
	if kernel.IsRealTime(types) {
		return nil
	}
	if p.sections, err = p.choose(); err != nil {
		return err
	}
	if err := p.leaveOutPreemptible(); err != nil || len(p.sections) == 0 {
		return err
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	var hooks []kernel.Hook
	for _, place := range all {
		if slices.Contains(p.sections, place.section) {
			hooks = append(hooks, kernel.Hook{Job: place.section, Name: place.section, Programs: []string{place.program}, Later: true})
		}
	}
	p.heads = map[string]head{}
	p.object, err = kernel.Load(spec, hooks, nil)
	return err
}

// leaveOutPreemptible leaves out the tracepoints in whose programs a thread can be preempted, which from Linux 7.0 on are all that run
// with bottom halves on. The kernel runs no program on a CPU where another run of it is preempted, so programs would be left out more
// often if they were reached together.
//
// Source: __DECLARE_TRACE in include/linux/tracepoint.h, __bpf_trace_run in kernel/trace/bpf_trace.c.
func (p *Places) leaveOutPreemptible() error {
	version, err := features.LinuxVersionCode()
	if err != nil {
		return fmt.Errorf("find out the version of the kernel: %w", err)
	}
	if version >= 7<<16 {
		p.sections = slices.DeleteFunc(p.sections, func(section string) bool { return section != Transmit && section != Arrival })
	}
	return nil
}

func (p *Places) close() error {
	object := p.object
	p.object, p.sections = nil, nil
	return errors.Join(p.kept.Close(), object.Close())
}

// Enable does nothing: the programs at the places are enabled by their instruments.
func (p *Places) Enable() error { return nil }

// Shutdown detaches the programs when nobody uses the places any more.
func (p *Places) Shutdown(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.references == 0 {
		return nil
	}
	if p.references--; p.references > 0 || p.object == nil {
		return nil
	}
	return p.close()
}

// Seats is what an object needs to have its programs at places.
type Seats struct {
	Hooks []kernel.Hook          // with the programs that are for the places
	Maps  map[string]*ebpf.Map   // to be used in place of those of the object
	Slots map[string]kernel.Slot // see [kernel.Object.Follow]
}

// Seat finds seats of the given ranks, by the sections of programs, for an object that will have these hooks. Programs that are not at a
// place, or whose seat is taken, will be attached as usual.
func (p *Places) Seat(spec *ebpf.CollectionSpec, hooks []kernel.Hook, ranks map[string]Rank) Seats {
	seats := Seats{Hooks: slices.Clone(hooks), Maps: map[string]*ebpf.Map{}, Slots: map[string]kernel.Slot{}}
	if p == nil {
		return seats
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, place := range all {
		rank, wanted := ranks[place.section]
		if !wanted || !slices.Contains(p.sections, place.section) {
			continue
		}
		slot := kernel.Slot{Map: p.object.Maps[place.slots], Index: uint32(rank)}
		if !slot.IsFree() || rank == First && p.heads[place.section] == leads {
			continue
		}
		slot.Lead = func(attach func() (io.Closer, error), disable func() error) (io.Closer, error) {
			return p.lead(place.section, place.slots, rank, attach, disable)
		}
		seats.Slots[place.section] = slot
		if rank == First {
			seats.Maps[place.slots] = slot.Map
			seats.promote(spec, place.section)
		}
	}
	return seats
}

// lead is the Lead of a slot of [kernel.Slot].
func (p *Places) lead(section, slots string, rank Rank, attach func() (io.Closer, error), disable func() error) (io.Closer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heads[section] == leads && rank == First {
		return attach()
	}
	if p.heads[section] != none {
		return nil, nil
	}
	if rank != First {
		if err := p.object.AttachLater(section); err != nil {
			return nil, err
		}
		p.heads[section] = reaches
		return nil, nil
	}
	attached, err := attach()
	if err != nil {
		return nil, err
	}
	p.heads[section] = leads
	second := kernel.Slot{Map: p.object.Maps[slots], Index: uint32(Second)}
	return kernel.Shutdown(func(context.Context) error { return p.leave(section, second, attached, disable) }), nil
}

// leave detaches the first program of a place. If there is a second one, which would miss what happens until it is attached itself, the
// first one stays until the places are shut down, and only jumps.
func (p *Places) leave(section string, second kernel.Slot, attached io.Closer, disable func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.object == nil || second.IsFree() {
		delete(p.heads, section)
		return attached.Close()
	}
	p.kept = append(p.kept, attached)
	return disable()
}

// first is the end of the names of programs that jump to the second one of their place when they are done.
//
// Kernel side: LEAVE_TO_SECOND in bpf/lib/program/place.h.
const first = "_first"

// promote replaces the hooks' programs of a section by those that are the first ones of a place.
func (s *Seats) promote(spec *ebpf.CollectionSpec, section string) {
	for i, hook := range s.Hooks {
		s.Hooks[i].Programs = slices.Clone(hook.Programs)
		for j, name := range hook.Programs {
			if spec.Programs[name].SectionName == section && spec.Programs[name+first] != nil {
				s.Hooks[i].Programs[j] = name + first
			}
		}
	}
}
