// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// timeToClaim is how long a packet that has arrived and is not handled at once, such as a fragment
// that waits for the others, may take to reach its socket before a collection counts it as
// unclaimed.
const timeToClaim = 50 * time.Millisecond

// read surveys the machine and returns everything that the kernel side has counted. The order
// matters: what an account claims must not be older than what has arrived and what is in flight,
// or the account unclaimed would be too high and could not decrease.
func (t *Traffic) read() (*snapshot, error) {
	if err := t.cells.free(); err != nil {
		return nil, err
	}
	if err := t.followForwarding(); err != nil {
		return nil, err
	}
	since, err := t.awaitClaims()
	if err != nil {
		return nil, err
	}
	errs := t.owners.Survey(t.clock.Now())
	found, err := t.interfaces.Survey()
	errs = errors.Join(errs, err)
	t.survey = survey{epoch: found.Epoch, namespaces: found.Namespaces()}
	if found.Whole {
		t.survey.existing = found.All
	}
	s, err := t.readMaps(since)
	if s == nil {
		return nil, errors.Join(errs, err)
	}
	return s, errors.Join(errs, err, t.quotas.apply(found.Host, s.entries), t.owners.Follow(s.processes, t.processes.Alive))
}

// survey is the result of a survey of the machine.
type survey struct {
	epoch      uint64
	namespaces map[uint64]bpfNamespaceEntry
	existing   map[uint64]bpfNamespaceEntry // likewise, with those that have no process; nil if not known
}

// readMaps returns what the kernel side has counted, on the machine as it was last surveyed. since
// is how many packets had arrived on each CPU at a time before: those that are not claimed yet may
// never be.
func (t *Traffic) readMaps(since []uint64) (*snapshot, error) {
	var errs error
	s := &snapshot{
		now: t.clock.BootNanos(t.clock.Now()), epoch: t.survey.epoch, namespaces: t.survey.namespaces, existing: t.survey.existing,
	}
	s.earlier = t.counters.read(s.namespaces, s.epoch)
	arrived, err := t.readAccounts()
	if err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read arrivals: %w", err))
	}
	cpus, err := t.readArrivals()
	if err != nil {
		return nil, errors.Join(errs, err)
	}
	s.inFlight, s.received = leftOf(cpus, since), seenBy(cpus)
	// A program that claims a packet takes it from there before it counts it.
	if err := t.gracePeriod.Wait(); err != nil {
		return nil, errors.Join(errs, err)
	}
	if s.accounts, err = readCounts[bpfAccountKey](t.object.Maps, bpfMapAccounts, len(arrived)); err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read accounts: %w", err))
	}
	if s.traffic, err = readCounts[bpfTrafficKey](t.object.Maps, bpfMapTraffic, t.rows); err != nil {
		return nil, errors.Join(errs, fmt.Errorf("read traffic: %w", err))
	}
	s.entries = entriesOf(s.accounts, s.traffic)
	if err := t.cells.add(s.accounts, s.traffic); err != nil {
		return nil, errors.Join(errs, err)
	}
	for key := range s.accounts {
		if key.Account == bpfAccountACCOUNT_ARRIVED {
			s.accounts[key] = arrived[key]
		}
	}
	t.rows = len(s.traffic)
	if s.interfaces, err = t.readInterfaces(); err != nil {
		return nil, errors.Join(errs, err)
	}
	s.counters = t.counters.read(s.namespaces, s.epoch)
	if s.processes, err = t.owners.Processes(); err != nil {
		return nil, errors.Join(errs, err)
	}
	return s, errs
}

// followForwarding begins to claim forwarded packets once something is forwarded.
func (t *Traffic) followForwarding() error {
	var forwards bool
	if err := t.object.Variables[bpfVarForwards].Get(&forwards); err != nil || !forwards || t.forwarding {
		return err
	}
	if err := t.claimForwarded(); err != nil {
		return err
	}
	t.writeHooks()
	return nil
}

// claimForwarded makes the kernel side claim forwarded packets at once from now on.
func (t *Traffic) claimForwarded() error {
	if err := t.object.AttachLater("forwarding"); err != nil {
		return err
	}
	t.forwarding = true
	return t.object.Variables[bpfVarWithForwarding].Set(true)
}

// forwards reports whether forwarding is enabled on the host whose / is at rootPath.
//
// Source: Documentation/networking/ip-sysctl.rst.
func forwards(rootPath string) bool {
	for _, family := range []string{"ipv4", "ipv6"} {
		all, err := os.ReadFile(filepath.Join("/", rootPath, "proc/sys/net", family, "conf/all/forwarding"))
		if err == nil && strings.TrimSpace(string(all)) != "0" {
			return true
		}
	}
	return false // otherwise, or if this is not known, it is noticed later
}

// awaitClaims gives packets that have just arrived time to be claimed, and returns how many had
// arrived on each CPU before. Waiting for a time is not enough, since a CPU may be held up while
// it handles a packet, for example a virtual one while its host runs others.
func (t *Traffic) awaitClaims() (since []uint64, err error) {
	before := t.arrived
	cpus, err := t.readArrivals()
	if err != nil {
		return nil, err
	}
	t.arrived = numbersOf(cpus)
	if len(leftOf(cpus, before)) == 0 {
		return t.arrived, nil
	}
	time.Sleep(timeToClaim)
	return t.arrived, t.gracePeriod.Wait()
}

func (t *Traffic) readArrivals() ([]bpfArrivals, error) {
	cpus, err := readCPUs[bpfArrivals](t.object.Maps[memoryOfArrivals])
	if err != nil {
		return nil, fmt.Errorf("read arrivals in flight: %w", err)
	}
	return cpus, nil
}

// readSent returns how many packets were passed to devices.
func (t *Traffic) readSent() (packets uint64, err error) {
	cpus, err := readCPUs[bpfHanding](t.object.Maps[memoryOfHanding])
	if err != nil {
		return 0, fmt.Errorf("read what was sent: %w", err)
	}
	for i := range cpus {
		packets += cpus[i].Seen
	}
	return packets, nil
}

// The names of the maps in which each CPU keeps what it receives and sends.
//
// Kernel side: bpf/lib/traffic/arrival.h and handed.h.
const (
	memoryOfArrivals = ".data.cpu_arrivals"
	memoryOfHanding  = ".data.cpu_handing"
)

// readCPUs returns what a map has for each CPU.
func readCPUs[T any](m *ebpf.Map) ([]T, error) {
	var one T
	cpus := make([]T, int(m.ValueSize())/int(unsafe.Sizeof(one)))
	return cpus, m.Lookup(uint32(0), cpus)
}

func (t *Traffic) readInterfaces() (map[bpfInterfaceKey]bpfInterfaceEntry, error) {
	all, err := t.interfaces.Interfaces()
	known := make(map[bpfInterfaceKey]bpfInterfaceEntry, len(all))
	for key, entry := range all {
		known[bpfInterfaceKey{Netns: key.Netns, Ifindex: key.Ifindex}] = entryFrom(entry)
		switch entryFrom(entry).kind() { // what arrives on these, or below them, is examined closely
		case "wireguard":
			err = errors.Join(err, t.object.Variables[bpfVarWithWireguard].Set(true), t.object.Variables[bpfVarWithSpecial].Set(true))
		case "xfrm":
			err = errors.Join(err, t.object.Variables[bpfVarWithXfrm].Set(true), t.object.Variables[bpfVarWithSpecial].Set(true))
		}
	}
	return known, err
}

// forgetProcesses deletes the map entries of processes that have ended. What was counted since the
// read is added to s, so that it is in their last points.
func (t *Traffic) forgetProcesses(s *snapshot, gone map[uint64]owner.Process) error {
	if len(gone) == 0 {
		return nil // the usual case
	}
	isGone := func(key bpfTrafficKey) bool {
		_, ok := gone[key.Number]
		return ok
	}
	taken, err := t.cells.take(isGone)
	takeCount, takerErr := takerOf[bpfTrafficKey](t.object.Maps, bpfMapTraffic)
	errs := errors.Join(err, takerErr, t.forgetWriters(gone))
	for key := range s.traffic {
		if !isGone(key) {
			continue
		}
		last, err := takeCount(key)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("forget traffic of process %d: %w", gone[key.Number].ID.PID, err))
			continue
		}
		s.traffic[key] = plus(last, taken[key])
		delete(taken, key)
	}
	maps.Copy(s.traffic, taken) // including what has come since the read
	for number, p := range gone {
		if err := t.owners.Forget(number, p.ID); err != nil {
			errs = errors.Join(errs, err)
		}
	}
	return errs
}

// forgetWriters deletes the entries of tun and tap devices whose writers have ended.
func (t *Traffic) forgetWriters(gone map[uint64]owner.Process) error {
	writers := t.object.Maps[bpfMapTunWriters]
	var devices []bpfTunKey
	var device bpfTunKey
	var number uint64
	entries := writers.Iterate()
	for entries.Next(&device, &number) {
		if _, ok := gone[number]; ok {
			devices = append(devices, device)
		}
	}
	errs := entries.Err()
	for _, device := range devices {
		if err := writers.Delete(device); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = errors.Join(errs, err)
		}
	}
	if errs != nil {
		return fmt.Errorf("forget who wrote to tun devices: %w", errs)
	}
	return nil
}

// forgetInterfaces deletes the map entries of interfaces that are gone. What was counted since the
// read is added to s.
func (t *Traffic) forgetInterfaces(s *snapshot) error {
	var closed []interfaces.Key
	for key := range s.interfaces {
		if t.ledger.hasEnded(key) {
			closed = append(closed, interfaces.Key{Netns: key.Netns, Ifindex: key.Ifindex})
		}
	}
	if !t.ledger.anyHasEnded() {
		return nil
	}
	taken, err := t.cells.take(func(key bpfTrafficKey) bool {
		account, ok := key.account()
		return ok && t.ledger.hasEnded(account.iface())
	})
	takeCount, takerErr := takerOf[bpfAccountKey](t.object.Maps, bpfMapAccounts)
	errs := errors.Join(t.interfaces.Forget(closed...), err, takerErr)
	for key := range s.accounts {
		if !t.ledger.hasEnded(key.iface()) {
			continue
		}
		last, err := takeCount(key)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("forget the accounts of an interface: %w", err))
			continue
		}
		s.accounts[key] = last
	}
	for key, count := range taken {
		account, _ := key.account()
		s.accounts[account] = plus(s.accounts[account], count)
	}
	return errs
}

func (t *Traffic) updateStats(s *snapshot, departing map[uint64]owner.Process) error {
	kinds, err := kernel.ReadCounts(t.object.Maps[bpfMapStats])
	if err != nil {
		return err
	}
	sent, err := t.readSent()
	if err != nil {
		return err
	}
	missed, err := t.object.MissedRuns()
	if err != nil {
		return err
	}
	usesMissed, err := t.owners.MissedRuns()
	if err != nil {
		return err
	}
	refused, err := t.quotas.refused()
	if err != nil {
		return err
	}
	aggregated, overflow := t.ledger.totals(s)
	t.ledger.forget(s, departing)
	t.recorder.Update(func(totals *stats.Totals) {
		totals.Seen = s.received + sent + missed
		totals.Aggregated = aggregated
		totals.Lost = map[string]uint64{
			"processes_full": overflow,
			"map_full":       kinds[bpfStatSTAT_LOST_MAP_FULL],
			"namespace_full": kinds[bpfStatSTAT_LOST_NAMESPACE_FULL],
			"recursion":      missed,
		}
		totals.MissedRuns = usesMissed
		totals.Copies = kinds[bpfStatSTAT_COPY]
		totals.Hooks = t.hooks()
		totals.Maps = map[string]stats.Map{
			bpfMapProcesses: {Entries: len(s.processes), Limit: t.limit(bpfMapProcesses)},
			bpfMapTraffic:   {Entries: allEntries(s.entries[bpfMapTraffic]), Limit: t.limit(bpfMapTraffic), Refused: refused[bpfMapTraffic]},
			bpfMapAccounts:  {Entries: allEntries(s.entries[bpfMapAccounts]), Limit: t.limit(bpfMapAccounts), Refused: refused[bpfMapAccounts]},
		}
		maps.Copy(totals.Maps, t.interfaces.Usage())
	})
	return nil
}

func (t *Traffic) limit(name string) int { return int(t.object.Maps[name].MaxEntries()) }

// readAccounts returns the counts of all accounts.
func (t *Traffic) readAccounts() (map[bpfAccountKey]bpfCount, error) {
	accounts, err := readCounts[bpfAccountKey](t.object.Maps, bpfMapAccounts, 0)
	return accounts, errors.Join(err, t.cells.add(accounts, nil))
}

// readCounts returns all counts of a map, including those that found no memory there. About
// expected entries are in it.
func readCounts[K comparable](maps map[string]*ebpf.Map, name string, expected int) (map[K]bpfCount, error) {
	all := make(map[K]bpfCount, expected)
	err := kernel.EachPerCPU(maps[name], func(key K, perCPU []bpfCount) { all[key] = sum(perCPU) })
	if err != nil {
		return all, err
	}
	err = kernel.EachPerCPU(maps["spare_"+name], func(key K, perCPU []bpfCount) { all[key] = plus(all[key], sum(perCPU)) })
	return all, err
}

// takerOf returns a function that takes the counts of a key out of both maps. A key that is not in
// the spare map gets there only while it is in neither.
func takerOf[K comparable](maps map[string]*ebpf.Map, name string) (take func(K) (bpfCount, error), err error) {
	spared := make(map[K]bool)
	err = kernel.EachPerCPU(maps["spare_"+name], func(key K, _ []bpfCount) { spared[key] = true })
	take = func(key K) (total bpfCount, err error) {
		from := []*ebpf.Map{maps[name]}
		if spared[key] {
			from = append(from, maps["spare_"+name])
		}
		for _, m := range from {
			perCPU, err := kernel.TakePerCPU[bpfCount](m, key)
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return total, err
			}
			total = plus(total, sum(perCPU))
		}
		return total, nil
	}
	return take, err
}
