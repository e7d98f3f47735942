// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// read returns everything that the kernel side has counted. Interfaces are read last, so that
// those of new keys are included.
func (d *Drops) read() (*snapshot, error) {
	survey, errs := d.interfaces.Survey()
	if d.knows {
		errs = errors.Join(errs, d.owners.Survey(d.clock.Now()), d.processes.FollowCgroups())
	}
	exemplars, err := d.takeExemplars()
	errs = errors.Join(errs, err)
	d.survey = survey
	s := &snapshot{now: d.clock.Now(), survey: survey, exemplars: exemplars}
	if d.unseen != nil {
		errs = errors.Join(errs, d.readCounters(s))
	}
	if err := d.readMaps(s); err != nil {
		return nil, errors.Join(errs, err)
	}
	processes := sync.OnceValues(d.owners.Processes)
	return s, errors.Join(errs, d.share(s), d.meetProcesses(s, processes), d.findEnded(s, processes))
}

// share tells the kernel side how many keys each network namespace has.
func (d *Drops) share(s *snapshot) error {
	if s.survey.Host == 0 {
		return nil // it is not known yet which namespace is the host's
	}
	entries := map[uint64]uint64{}
	for key := range s.detailed {
		entries[key.Netns]++
	}
	return d.quota.Apply(s.survey.Host, entries)
}

// readCounters reads the kernel's own counters of the host's network namespace.
func (d *Drops) readCounters(s *snapshot) error {
	inode, err := d.inodeOfHost()
	if err != nil {
		return err
	}
	for netns, namespace := range s.survey.All {
		if namespace.Inode == inode {
			s.host = netns
		}
	}
	s.counters, err = d.counters.read(inode)
	addSums(s.counters, d.words.rules)
	return err
}

// meetProcesses finds the processes that lost packets. If there are new ones it reads all known
// processes.
func (d *Drops) meetProcesses(s *snapshot, processes func() (map[uint64]owner.Process, error)) error {
	s.victims = map[uint64]*victim{}
	for key := range s.detailed {
		if key.Number == 0 || s.victims[key.Number] != nil {
			continue
		}
		if v := d.roster.Number(key.Number); v != nil {
			s.victims[key.Number] = v
			continue
		}
		known, err := processes()
		if err != nil {
			return err
		}
		p, ok := known[key.Number]
		if !ok {
			p, ok = d.remembered[key.Number]
		}
		if ok {
			s.victims[key.Number] = d.roster.Meet(key.Number, p)
		}
	}
	return nil
}

// findEnded finds out which processes have ended, or have another identity after exec or setuid,
// and which were the last to have a port.
func (d *Drops) findEnded(s *snapshot, processes func() (map[uint64]owner.Process, error)) error {
	if !d.knows {
		return nil
	}
	known, err := processes()
	if err != nil {
		return err
	}
	s.ended, s.listened = maps.Clone(d.remembered), map[uint64]bool{}
	for number, p := range known {
		if !p.Alive {
			s.ended[number] = p
		}
	}
	if err := d.owners.Follow(known, d.processes.Alive); err != nil {
		return err
	}
	return kernel.Each(d.object.Maps[bpfMapLastListeners], func(_ bpfPortKey, number uint64) { s.listened[number] = true })
}

// forgetProcesses forgets the processes that have ended and are in no key. A process that was the
// last to have a port may still get into a key, and is remembered here.
func (d *Drops) forgetProcesses(s *snapshot) error {
	used := d.ledger.numbers()
	var errs error
	for number, p := range s.ended {
		_, remembered := d.remembered[number]
		switch {
		case !d.ended[number] || used[number]:
		case remembered && !s.listened[number]:
			delete(d.remembered, number)
		case !remembered:
			if s.listened[number] {
				d.remembered[number] = p
			}
			errs = errors.Join(errs, d.owners.Forget(number, p.ID))
		}
	}
	d.ended = map[uint64]bool{}
	for number := range s.ended {
		d.ended[number] = true
	}
	return errs
}

func (d *Drops) readMaps(s *snapshot) (err error) {
	if s.detailed, err = readCounts(d.object.Maps[bpfMapDrops]); err != nil {
		return err
	}
	if s.coarse, err = readCounts(d.object.Maps[bpfMapDropsWithoutDetail]); err != nil {
		return err
	}
	s.interfaces, err = d.interfaces.Interfaces()
	return err
}

// readCounts returns each entry of m, summed over the CPUs.
func readCounts(m *ebpf.Map) (map[bpfDropKey]uint64, error) {
	counts := map[bpfDropKey]uint64{}
	err := kernel.EachPerCPU(m, func(key bpfDropKey, perCPU []uint64) { counts[key] = sum(perCPU) })
	return counts, err
}

func sum(perCPU []uint64) (sum uint64) {
	for _, count := range perCPU {
		sum += count
	}
	return sum
}

// makeRoom removes from the kernel's maps what is no longer needed there.
func (d *Drops) makeRoom(s *snapshot) error {
	m := d.object.Maps[bpfMapDrops]
	enough := func(all int) int { return (3*all + 3) / 4 }
	var errs error
	for _, key := range d.ledger.departing(s, enough(int(m.MaxEntries())), enough(d.quota.Each())) {
		last, err := kernel.TakePerCPU[uint64](m, key)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // it may be kept only for its series
			errs = errors.Join(errs, fmt.Errorf("take a count out: %w", err))
			continue
		}
		d.ledger.remove(key, sum(last))
	}
	return errors.Join(errs, d.interfaces.Forget(d.ledger.forgettable(s)...))
}

// updateStats updates the statistics. Drops that happened while the maps were read count as seen,
// and are in a series from the next Collect on.
func (d *Drops) updateStats(s *snapshot) error {
	kinds, err := kernel.ReadCounts(d.object.Maps[bpfMapStats])
	if err != nil {
		return err
	}
	missed, err := kernel.MissedRuns(d.object.Programs[d.counting])
	if err != nil {
		return err
	}
	var unplaced uint64
	if err := d.object.Variables[bpfVarUnplaced].Get(&unplaced); err != nil {
		return fmt.Errorf("read drops without a process: %w", err)
	}
	refused, err := d.quota.Refused()
	if err != nil {
		return err
	}
	d.recorder.Update(func(totals *stats.Totals) {
		totals.WithoutProcess = unplaced + d.ledger.nameless()
		totals.Seen = kinds[bpfStatSTAT_SEEN] + missed
		totals.Aggregated = d.ledger.aggregated()
		totals.Lost = map[string]uint64{"map_full": kinds[bpfStatSTAT_LOST_MAP_FULL], "recursion": missed}
		totals.Hooks = d.hooks()
		totals.Maps = map[string]stats.Map{
			bpfMapDrops:              {Entries: len(s.detailed), Limit: d.limit(bpfMapDrops), Refused: refused},
			bpfMapDropsWithoutDetail: {Entries: len(s.coarse), Limit: d.limit(bpfMapDropsWithoutDetail)},
		}
		maps.Copy(totals.Maps, d.interfaces.Usage())
	})
	return nil
}

func (d *Drops) limit(name string) int { return int(d.object.Maps[name].MaxEntries()) }

// takeExemplars returns, by key, what an application was doing when a packet of it was dropped
// since the previous call.
func (d *Drops) takeExemplars() (map[bpfDropKey]exemplar, error) {
	if d.contexts == nil {
		return nil, nil
	}
	m := d.object.Maps[bpfMapExemplars]
	taken := map[bpfDropKey]exemplar{}
	var key bpfDropKey
	var value bpfExemplar
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		k := value.Context
		context, err := tracecontext.New(k.TraceId, k.SpanId, k.Source, k.Link, k.Sampled)
		if err != nil {
			return taken, fmt.Errorf("read exemplars: %w", err)
		}
		taken[key] = exemplar{context, value.TimeNs}
	}
	errs := entries.Err()
	for key := range taken {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = errors.Join(errs, err)
		}
	}
	if errs != nil {
		return taken, fmt.Errorf("read exemplars: %w", errs)
	}
	return taken, nil
}

// learnFunctions finds the names of locations that are new. Most are met soon after the start, so
// the table of symbols is kept for a while. It is used only for the kernel's own functions, since
// modules are loaded and unloaded.
func (d *Drops) learnFunctions(s *snapshot) error {
	unknown := map[uint64]bool{}
	for _, counts := range []map[bpfDropKey]uint64{s.detailed, s.coarse} {
		for key := range counts {
			if _, known := d.words.functions[key.Location]; !known && key.Location != 0 {
				unknown[key.Location] = true
			}
		}
	}
	if time.Since(d.symbolsRead) > kernel.KeepSymbols {
		d.symbols = nil
	}
	if d.symbols != nil {
		for location := range unknown {
			if name, ok := d.symbols.OwnFunction(location); ok {
				d.words.functions[location] = dropper(name)
				delete(unknown, location)
			}
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	symbols, err := kernel.RunningSymbols()
	if err != nil {
		return err
	}
	d.symbols, d.symbolsRead = symbols, time.Now()
	for location := range unknown {
		name, _ := symbols.Function(location)
		d.words.functions[location] = dropper(name)
	}
	return nil
}
