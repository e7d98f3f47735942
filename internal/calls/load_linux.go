// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/seed-7756021b/nettap/internal/budget"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/places"
)

// maxThreads is how many threads can have a tree at the same time on kernels before Linux 5.11, which
// have no task storage. The trees take 10 MB.
const maxThreads = 4096

func (c *Calls) load() error {
	types, err := kernel.Types()
	if err != nil {
		return fmt.Errorf("load the kernel's BTF: %w", err)
	}
	c.object, err = c.loadPrograms(types, nil)
	if refused := (*ebpf.VerifierError)(nil); c.options.Waits && errors.As(err, &refused) {
		c.object, err = c.loadPrograms(types, err) // without waits, calls can still be reported
	}
	if err != nil {
		return err
	}
	c.open = append(c.open, c.object)
	if c.ring, err = ringbuf.NewReader(c.object.Maps[bpfMapCalls]); err != nil {
		return fmt.Errorf("open ring: %w", err)
	}
	c.open = append(c.open, c.ring)
	c.corrupt, c.cgroups = 0, map[uint64]bool{}
	memory, err := c.object.Maps[c.places.SectionName].Memory()
	if err != nil {
		return fmt.Errorf("map the places of threads: %w", err)
	}
	c.threads = io.NewSectionReader(memory, int64(c.places.Offset), int64(c.places.Size()))
	return c.configure()
}

// loadPrograms chooses the hooks and loads their programs. If withoutWaits is not nil it says
// why waits cannot be seen, and they are left out.
func (c *Calls) loadPrograms(types *btf.Spec, withoutWaits error) (*kernel.Object, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	if !kernel.HasHelper(types, "task_storage_get") {
		spec.Maps[bpfMapThreadTrees].MaxEntries = maxThreads
	}
	if err := errors.Join(c.contexts.Fit(spec), setRate(spec, c.options.MaxPerSecond), c.setDurations(spec)); err != nil {
		return nil, err
	}
	hooks, err := c.chooseHooks(spec, types, withoutWaits)
	if err != nil {
		return nil, err
	}
	c.places = spec.Variables[bpfVarThreads]
	if c.ringBytes != 0 {
		spec.Maps[bpfMapCalls].MaxEntries = uint32(c.ringBytes)
	}
	return c.loadAtPlaces(spec, hooks)
}

// ranks are those of programs at places.
var ranks = map[string]places.Rank{places.Transmit: places.Second, places.Arrival: places.Second, places.Exit: places.First}

// loadAtPlaces loads the programs of the hooks, which will run after those of others where that is possible.
func (c *Calls) loadAtPlaces(spec *ebpf.CollectionSpec, hooks []kernel.Hook) (*kernel.Object, error) {
	seats := c.options.Places.Seat(spec, hooks, ranks)
	maps.Copy(seats.Maps, c.contexts.Maps(spec))
	object, err := kernel.Load(spec, seats.Hooks, seats.Maps)
	if err != nil {
		return nil, err
	}
	maps.Copy(seats.Slots, c.contexts.Slots())
	object.Follow(seats.Slots)
	return object, nil
}

// wantsElements is the size of the array in which the BPF programs count how many processes want to
// report how many calls.
//
// Kernel side: WANTS in bpf/lib/calls/shares.h.
const wantsElements = 128

// setRate sets how many calls are reported in a second.
func setRate(spec *ebpf.CollectionSpec, perSecond int) error {
	step := max(1, (perSecond+wantsElements-1)/wantsElements)
	return errors.Join(spec.Variables[bpfVarMaxPerSecond].Set(uint64(perSecond)), spec.Variables[bpfVarStepOfWant].Set(uint32(step)))
}

// configure sets the options in the programs.
func (c *Calls) configure() error {
	o, filter := c.options, c.options.Filter
	errs := c.setVariables(c.flags(budget.Full))
	errs = errors.Join(errs, c.setVariables(map[string]any{
		bpfVarOwnPid:             uint32(c.ownPID),
		bpfVarMinDurationNs:      uint64(o.MinDuration),
		bpfVarPlainNs:            int64(o.MinDuration),
		bpfVarIdleWaits:          o.IdleWaits,
		bpfVarWithDurations:      o.Durations,
		bpfVarKeepUnsampled:      o.KeepUnsampled,
		bpfVarWantedErrors:       wantedErrors(o.Errors),
		bpfVarOmitsExpected:      o.Errors.Unexpected,
		bpfVarFiltersAny:         len(filter.Commands)+len(filter.Users)+len(filter.Cgroups)+len(filter.Containers)+len(filter.Syscalls) > 0,
		bpfVarFiltersPids:        len(filter.PIDs) > 0,
		bpfVarFiltersCommands:    len(filter.Commands) > 0,
		bpfVarFiltersUsers:       len(filter.Users) > 0,
		bpfVarFiltersCgroups:     len(filter.Cgroups)+len(filter.Containers) > 0,
		bpfVarFiltersSyscalls:    len(filter.Syscalls) > 0,
		bpfVarFiltersConnections: len(filter.Prefixes)+len(filter.Ports) > 0,
		bpfVarFiltersAddresses:   len(filter.Prefixes) > 0,
		bpfVarFiltersPorts:       len(filter.Ports) > 0,
	}))
	if len(filter.Prefixes)+len(filter.Ports) > 0 {
		errs = errors.Join(errs, c.object.Variables[bpfVarPlainNs].Set(int64(0)))
	}
	c.cgroupsAt = 0
	if errs = errors.Join(errs, fill(c.object, filter), c.refreshCgroups()); errs != nil {
		return errs
	}
	c.filters++ // set last, so that calls that passed the former filters are checked again
	return c.setVariables(map[string]any{bpfVarFiltersVersion: c.filters, bpfVarUsualVersion: c.usualVersion(o.followsAll())})
}

// wantedErrors returns a set of bits, one for each errno whose failures are kept.
func wantedErrors(errnos Errnos) [3]uint64 {
	var bits [3]uint64
	numbers := errnos.Numbers
	if errnos.All || errnos.Unexpected {
		for number := uint32(1); number <= lastErrno; number++ {
			if isFailure(number) {
				numbers = append(numbers, number)
			}
		}
	}
	for _, number := range numbers {
		bits[number/64] |= 1 << (number % 64)
	}
	return bits
}

// fill puts the elements of the filters into their maps.
func fill(object *kernel.Object, filter Filter) error {
	var errs error
	put := func(name string, key any) {
		if err := object.Maps[name].Put(key, uint8(1)); err != nil {
			errs = errors.Join(errs, fmt.Errorf("fill filter %s: %w", name, err))
		}
	}
	for _, pid := range filter.PIDs {
		put(bpfMapPids, pid)
	}
	for _, command := range filter.Commands {
		var key [16]byte
		copy(key[:], command)
		put(bpfMapCommands, key)
	}
	for _, user := range filter.Users {
		put(bpfMapUsers, user)
	}
	for _, number := range syscallNumbers(filter.Syscalls) {
		put(bpfMapSyscalls, number)
	}
	for _, port := range filter.Ports {
		put(bpfMapPorts, port)
	}
	for _, prefix := range filter.Prefixes {
		put(bpfMapAddresses, prefixKey(prefix))
	}
	return errs
}

// prefixKey returns a prefix as a key of the kernel's map, with IPv4 as ::ffff:a.b.c.d.
func prefixKey(prefix netip.Prefix) [20]byte {
	var key [20]byte
	bits := prefix.Bits()
	if prefix.Addr().Is4() {
		bits += 96
	}
	binary.NativeEndian.PutUint32(key[:], uint32(min(bits, math.MaxUint8)))
	address := prefix.Addr().As16()
	copy(key[4:], address[:])
	return key
}
