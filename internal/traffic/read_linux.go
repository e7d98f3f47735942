package traffic

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// timeToClaim is how long a packet that has arrived may take to reach its socket
// before a collection says that nobody claims it.
const timeToClaim = 50 * time.Millisecond

// read surveys the machine and returns all the kernel side has counted. The
// order matters: what an account claims must not be older than what arrived and
// what is in flight, or the account of the unclaimed would be too high and could
// not shrink.
func (t *Traffic) read() (*snapshot, error) {
	since, err := t.awaitClaims()
	if err != nil {
		return nil, err
	}
	errs := t.survey()
	s := &snapshot{now: t.clock.BootNanos(t.clock.Now()), epoch: t.epoch}
	if s.namespaces, err = readAll[uint64, bpfNamespaceEntry](t.object.Maps["namespaces"]); err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read namespaces: %w", err))
	}
	s.earlier = t.counters.read(s.namespaces, t.epoch)
	arrived, err := readPerCPU[bpfAccountKey](t.object.Maps["accounts"])
	if err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read arrivals: %w", err))
	}
	cpus, err := t.readArrivals()
	if err != nil {
		return nil, errors.Join(errs, err)
	}
	s.inFlight, s.received = leftOf(cpus, since), seenBy(cpus)
	if s.accounts, err = readPerCPU[bpfAccountKey](t.object.Maps["accounts"]); err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read accounts: %w", err))
	}
	for key := range s.accounts {
		if key.Account == bpfAccountACCOUNT_ARRIVED {
			s.accounts[key] = arrived[key]
		}
	}
	if s.traffic, err = readPerCPU[bpfTrafficKey](t.object.Maps["traffic"]); err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read traffic: %w", err))
	}
	if s.interfaces, err = readAll[bpfInterfaceKey, bpfInterfaceEntry](t.object.Maps["interfaces"]); err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read interfaces: %w", err))
	}
	s.counters = t.counters.read(s.namespaces, t.epoch)
	if s.processes, err = t.owners.Processes(); err != nil {
		return nil, errors.Join(errs, err)
	}
	return s, errors.Join(errs, t.follow(s.processes))
}

// follow lets the sockets of a process that has changed itself go over to what
// it is now, once for each change.
func (t *Traffic) follow(processes map[uint64]owner.Process) error {
	changed := false
	for number, p := range processes {
		if !p.Alive && !t.followed[number] && t.processes.Alive(p.ID) {
			t.followed[number] = true
			changed = true
		}
	}
	maps.DeleteFunc(t.followed, func(number uint64, _ bool) bool {
		_, known := processes[number]
		return !known
	})
	if !changed {
		return nil
	}
	return t.owners.LearnFiles()
}

// awaitClaims gives packets that have just arrived time to be claimed, and
// returns how many had arrived on each CPU before.
func (t *Traffic) awaitClaims() (since []uint64, err error) {
	cpus, err := t.readArrivals()
	if err != nil {
		return nil, err
	}
	if len(leftOf(cpus, t.arrived)) != 0 {
		time.Sleep(timeToClaim)
	}
	t.arrived = numbersOf(cpus)
	return t.arrived, nil
}

func (t *Traffic) readArrivals() ([]bpfArrivals, error) {
	var cpus []bpfArrivals
	if err := t.object.Maps["arrivals"].Lookup(uint32(0), &cpus); err != nil {
		return nil, fmt.Errorf("read arrivals in flight: %w", err)
	}
	return cpus, nil
}

// readSent returns how many packets devices were given.
func (t *Traffic) readSent() (packets uint64, err error) {
	var cpus []bpfHanding
	if err := t.object.Maps["handing"].Lookup(uint32(0), &cpus); err != nil {
		return 0, fmt.Errorf("read what was sent: %w", err)
	}
	for i := range cpus {
		packets += cpus[i].Seen
	}
	return packets, nil
}

func (t *Traffic) survey() error {
	t.epoch++
	if err := t.object.Variables["epoch"].Set(t.epoch); err != nil {
		return fmt.Errorf("set epoch: %w", err)
	}
	errs := t.owners.Survey()
	if err := kernel.RunIterator(t.object.Programs["survey_interfaces"]); err != nil {
		return errors.Join(errs, fmt.Errorf("survey interfaces: %w", err))
	}
	return errs
}

// forgetProcesses frees the map entries of processes that are gone. What was
// counted since the reading goes into s, so that it is in their last points.
func (t *Traffic) forgetProcesses(s *snapshot, gone map[uint64]owner.Process) error {
	var errs error
	for key := range s.traffic {
		if _, ok := gone[key.Number]; !ok {
			continue
		}
		last, err := takePerCPU(t.object.Maps["traffic"], key)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("forget traffic of process %d: %w", gone[key.Number].ID.PID, err))
			continue
		}
		s.traffic[key] = last
	}
	for _, p := range gone {
		if err := t.owners.Forget(p.ID); err != nil {
			errs = errors.Join(errs, err)
		}
		t.processes.Forget(p.ID)
	}
	return errs
}

// forgetInterfaces frees the map entries of interfaces that are gone. What was
// counted since the reading goes into s.
func (t *Traffic) forgetInterfaces(s *snapshot) error {
	var errs error
	for key := range s.interfaces {
		if t.ledger.closed[key] {
			errs = errors.Join(errs, t.object.Maps["interfaces"].Delete(key))
		}
	}
	for key := range s.accounts {
		if !t.ledger.closed[key.iface()] {
			continue
		}
		last, err := takePerCPU(t.object.Maps["accounts"], key)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("forget the accounts of an interface: %w", err))
			continue
		}
		s.accounts[key] = last
	}
	for netns, entry := range s.namespaces {
		if entry.Epoch != s.epoch {
			errs = errors.Join(errs, t.object.Maps["namespaces"].Delete(netns))
		}
	}
	return errs
}

func (t *Traffic) writeBooks(s *snapshot, departing map[uint64]owner.Process) error {
	kinds, err := kernel.ReadBooks(t.object.Maps["books"])
	if err != nil {
		return err
	}
	sent, err := t.readSent()
	if err != nil {
		return err
	}
	missed, err := kernel.MissedRuns(slices.Collect(maps.Values(t.object.Programs))...)
	if err != nil {
		return err
	}
	aggregated, overflow := t.ledger.totals(s, departing)
	t.books.Update(func(page *books.Page) {
		page.Seen = s.received + sent + missed
		page.Aggregated = aggregated
		page.Lost = map[string]uint64{
			"processes_full": overflow,
			"map_full":       kinds[bpfBookBOOK_LOST_MAP_FULL],
			"recursion":      missed,
		}
		page.Copies = kinds[bpfBookBOOK_COPY]
		page.Maps = map[string]books.Map{
			"processes":  {Entries: len(s.processes), Limit: t.limit("processes")},
			"traffic":    {Entries: len(s.traffic), Limit: t.limit("traffic")},
			"accounts":   {Entries: len(s.accounts), Limit: t.limit("accounts")},
			"interfaces": {Entries: len(s.interfaces), Limit: t.limit("interfaces")},
			"namespaces": {Entries: len(s.namespaces), Limit: t.limit("namespaces")},
		}
	})
	return nil
}

func (t *Traffic) limit(name string) int { return int(t.object.Maps[name].MaxEntries()) }

func readAll[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	all := make(map[K]V)
	var key K
	var value V
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		all[key] = value
	}
	return all, entries.Err()
}

func readPerCPU[K comparable](m *ebpf.Map) (map[K]bpfCount, error) {
	all := make(map[K]bpfCount)
	var key K
	var perCPU []bpfCount
	entries := m.Iterate()
	for entries.Next(&key, &perCPU) {
		all[key] = sum(perCPU)
	}
	return all, entries.Err()
}

// takePerCPU reads and deletes an entry: at once where the kernel can (5.14).
func takePerCPU[K comparable](m *ebpf.Map, key K) (bpfCount, error) {
	var perCPU []bpfCount
	err := m.LookupAndDelete(key, &perCPU)
	if errors.Is(err, ebpf.ErrNotSupported) {
		if err = m.Lookup(key, &perCPU); err == nil {
			err = m.Delete(key)
		}
	}
	return sum(perCPU), err
}
