// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"errors"
	"fmt"

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

// makeRoom removes the tallies of processes that have ended from the kernel's map.
func (c *Connections) makeRoom(s *snapshot) error {
	var errs error
	for _, key := range c.ledger.departing(s) {
		last, err := kernel.Take[bpfTally](c.object.Maps[bpfMapTallies], key)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = errors.Join(errs, fmt.Errorf("take a tally out: %w", err))
			continue
		}
		c.ledger.remove(key, last)
	}
	return errs
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
		totals.Maps = map[string]stats.Map{bpfMapTallies: {Entries: len(s.tallies), Limit: int(c.object.Maps[bpfMapTallies].MaxEntries())}}
		totals.Hooks = c.hooks()
	})
	return nil
}
