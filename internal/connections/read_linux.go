// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// read returns everything that the BPF programs have counted. Processes are read after the tallies, so
// that they include the processes of new tallies.
func (c *Connections) read() (*snapshot, error) {
	errs := errors.Join(c.owners.Survey(c.clock.Now()), c.processes.FollowCgroups())
	s := &snapshot{now: c.clock.Now(), members: map[uint64]*owner.Member{}}
	var err error
	if s.tallies, err = kernel.ReadAll[bpfTallyKey, bpfTally](c.object.Maps[bpfMapTallies]); err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read tallies: %w", err))
	}
	s.entries = len(s.tallies)
	if err := c.readPlaces(s); err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read places: %w", err))
	}
	if s.processes, err = c.owners.Processes(); err != nil {
		return nil, errors.Join(errs, err)
	}
	c.meetProcesses(s)
	return s, errors.Join(errs, c.owners.Follow(s.processes, c.processes.Alive))
}

// meetProcesses finds the processes of the tallies.
func (c *Connections) meetProcesses(s *snapshot) {
	for key := range s.tallies {
		if key.Number == 0 || s.members[key.Number] != nil {
			continue
		}
		if m := c.roster.Number(key.Number); m != nil {
			s.members[key.Number] = m
		} else if p, ok := s.processes[key.Number]; ok {
			s.members[key.Number] = c.roster.Meet(key.Number, p)
		}
	}
}

// readPlaces adds what processes have counted in their places.
func (c *Connections) readPlaces(s *snapshot) error {
	s.places = map[uint64]uint32{}
	err := kernel.Each(c.object.Maps[bpfMapPlaces], func(place uint32, number uint64) {
		if number != free {
			s.places[number] = place
		}
	})
	if err != nil {
		return err
	}
	for number, place := range s.places {
		var usual bpfUsual
		if err := c.object.Maps[bpfMapUsuals].Lookup(place, &usual); err != nil {
			return err
		}
		for key, tally := range usual.tallies(number) {
			s.add(key, tally)
		}
	}
	return nil
}

// makeRoom removes the tallies of processes that have ended from the kernel's maps.
func (c *Connections) makeRoom(s *snapshot) error {
	departing := c.ledger.departing(s)
	lasts, errs := c.leavePlaces(s, departing)
	for _, key := range departing {
		last, err := kernel.Take[bpfTally](c.object.Maps[bpfMapTallies], key)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = errors.Join(errs, fmt.Errorf("take a tally out: %w", err))
		}
		last.add(lasts[key])
		c.ledger.remove(key, last)
	}
	return errs
}

// What the kernel has as the number of the process in a place.
//
// Kernel side: places in bpf/connections.bpf.c.
const (
	free    = uint64(0)
	freeing = ^uint64(0) // no process has it
)

// leavePlaces frees the places of processes that have ended, and returns what they had counted there. While a
// place is being freed nothing is counted in it.
func (c *Connections) leavePlaces(s *snapshot, departing []bpfTallyKey) (lasts map[bpfTallyKey]bpfTally, errs error) {
	leave := map[uint64]uint32{}
	for _, key := range departing {
		if place, ok := s.places[key.Number]; ok {
			leave[key.Number] = place
		}
	}
	if len(leave) == 0 {
		return nil, nil
	}
	places, usuals := c.object.Maps[bpfMapPlaces], c.object.Maps[bpfMapUsuals]
	for _, place := range leave {
		errs = errors.Join(errs, places.Put(place, freeing))
	}
	errs = errors.Join(errs, c.gracePeriod.Wait()) // a program may be counting there
	lasts = map[bpfTallyKey]bpfTally{}
	for number, place := range leave {
		var usual bpfUsual
		errs = errors.Join(errs, usuals.Lookup(place, &usual), usuals.Put(place, bpfUsual{}), places.Put(place, free))
		maps.Copy(lasts, usual.tallies(number))
	}
	if errs != nil {
		errs = fmt.Errorf("free places: %w", errs)
	}
	return lasts, errs
}

// forgetProcesses removes processes that had already ended at the last collection and have no tallies any
// more, so that there is room for others.
func (c *Connections) forgetProcesses(s *snapshot) error {
	used := c.ledger.numbers()
	ended := map[uint64]bool{}
	var errs error
	for number, p := range s.processes {
		if p.Alive {
			continue
		}
		ended[number] = true
		if c.ended[number] && !used[number] {
			errs = errors.Join(errs, c.owners.Forget(number, p.ID))
		}
	}
	c.ended = ended
	return errs
}

// updateStats brings the recorder's counts up to date. Events that came while the map was read count as
// seen now, and as aggregated at the next Collect.
func (c *Connections) updateStats(s *snapshot) error {
	kinds, err := kernel.ReadCounts(c.object.Maps[bpfMapStats])
	if err != nil {
		return err
	}
	missed, err := c.object.MissedRuns()
	if err != nil {
		return err
	}
	c.recorder.Update(func(totals *stats.Totals) {
		totals.Seen = kinds[bpfStatSTAT_SEEN]
		totals.Aggregated = c.ledger.aggregated()
		totals.Lost = map[string]uint64{"map_full": kinds[bpfStatSTAT_LOST_MAP_FULL]}
		totals.MissedRuns = missed
		totals.Maps = map[string]stats.Map{bpfMapTallies: {Entries: s.entries, Limit: int(c.object.Maps[bpfMapTallies].MaxEntries())}}
		totals.Hooks = c.hooks()
	})
	return nil
}
