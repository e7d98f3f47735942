// SPDX-License-Identifier: Apache-2.0

// Package traffic reports the packets and bytes that each process sent and received, per
// interface, and puts all bytes of each interface on accounts that can be compared with the
// interface's own counter. Kernel side: bpf/traffic.bpf.c.
package traffic

import (
	"cmp"
	"maps"
	"slices"

	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/plain"
	"github.com/seed-7756021b/nettap/internal/process"
)

// quantity is the value of a counter of packets and of a counter of bytes.
type quantity struct{ packets, bytes uint64 }

func (q *quantity) add(other quantity) {
	q.packets += other.packets
	q.bytes += other.bytes
}

// counter is an interface's own counter, by direction.
type counter [2]quantity

// bpfNamespaceEntry is a network namespace that has a process.
type bpfNamespaceEntry = interfaces.Namespace

// snapshot is all that was read at one collection.
type snapshot struct {
	now        uint64 // ns since boot
	epoch      uint64 // number of its survey; entries with this number exist
	processes  map[uint64]owner.Process
	traffic    map[bpfTrafficKey]bpfCount
	accounts   map[bpfAccountKey]bpfCount
	entries    map[string]map[uint64]uint64 // number of entries in each of the two maps, by network namespace
	inFlight   map[bpfInterfaceKey]bpfCount // has arrived, and may still be claimed
	received   uint64                       // number of packets that have arrived
	interfaces map[bpfInterfaceKey]bpfInterfaceEntry
	namespaces map[uint64]bpfNamespaceEntry  // network namespaces with a process
	existing   map[uint64]bpfNamespaceEntry  // all network namespaces; nil is unknown
	earlier    map[uint64]map[string]counter // the interfaces' own, by namespace and name, before all else was read
	counters   map[uint64]map[string]counter // the same after it
}

// isDead reports whether a network namespace no longer exists.
func (s *snapshot) isDead(netns uint64) bool {
	_, exists := s.existing[netns]
	return s.existing != nil && !exists
}

// usage is what one process moved since start.
type usage struct {
	process owner.Process
	start   uint64 // ns since boot
	until   uint64 // likewise; 0 is now
	rows    []row
}

type row struct {
	interfaceName string // "" is unknown
	netnsInode    uint32
	direction     bpfDirection
	transport     uint8
	networkType   uint16
	quantity
}

// report is the result of one collection.
type report struct {
	processes  []usage
	gone       []usage // reported their last points before
	resumed    []usage // last points of series that began again before a consumer took them
	interfaces []statement
	departed   []statement // interfaces that are gone
	reopened   []statement // as resumed
	final      bool        // gone have their last points in it too
}

func sum(perCPU []bpfCount) bpfCount {
	var total bpfCount
	for _, c := range perCPU {
		total = plus(total, c)
	}
	return total
}

func plus(a, b bpfCount) bpfCount {
	a.Packets += b.Packets
	a.Bytes += b.Bytes
	a.Frames += b.Frames
	a.FrameBytes += b.FrameBytes
	return a
}

func entryFrom(e interfaces.Entry) bpfInterfaceEntry {
	return bpfInterfaceEntry{
		Epoch:      e.Epoch,
		Name:       e.Name,
		Kind:       e.Kind,
		NetnsInode: e.NetnsInode,
		Hardware:   e.Hardware,
		Bare:       e.Bare,
		Link:       e.Link,
	}
}

// less returns a without b. The kernel's maps are read one after the other, so b may be
// larger than a; the result is not below 0.
func less(a, b bpfCount) bpfCount {
	return bpfCount{
		Packets: a.Packets - min(a.Packets, b.Packets), Bytes: a.Bytes - min(a.Bytes, b.Bytes),
		Frames: a.Frames - min(a.Frames, b.Frames), FrameBytes: a.FrameBytes - min(a.FrameBytes, b.FrameBytes),
	}
}

func most(a, b bpfCount) bpfCount {
	return bpfCount{
		Packets: max(a.Packets, b.Packets), Bytes: max(a.Bytes, b.Bytes),
		Frames: max(a.Frames, b.Frames), FrameBytes: max(a.FrameBytes, b.FrameBytes),
	}
}

// name is the name of the interface, which may be any bytes; shownName is safe to show.
func (e bpfInterfaceEntry) name() string      { return process.Text(e.Name[:]) }
func (e bpfInterfaceEntry) shownName() string { return plain.Text(e.name()) }

// kind is the name of its driver, as in `ip link add type KIND`; "" for hardware and lo.
func (e bpfInterfaceEntry) kind() string { return process.Text(e.Kind[:]) }

func (k bpfTrafficKey) iface() bpfInterfaceKey {
	return bpfInterfaceKey{Netns: k.Netns, Ifindex: k.Ifindex}
}

func (k bpfAccountKey) iface() bpfInterfaceKey {
	return bpfInterfaceKey{Netns: k.Netns, Ifindex: k.Ifindex}
}

// look is what the series of a process show of an interface, and the unit in which they count.
type look struct {
	interfaceIdentity
	units [2]unit
	link  uint64 // bytes of a link header
}

// looks has the look of each interface. It is computed once for each, since there are fewer
// interfaces than series. Most series are about the same interface as the one before.
type looks struct {
	all  map[bpfInterfaceKey]look
	last *look
	key  bpfInterfaceKey // of the last one
}

func (l *ledger) looks() *looks {
	all := make(map[bpfInterfaceKey]look, len(l.interfaces))
	for key, iface := range l.interfaces {
		all[key] = look{interfaceIdentity: l.shown(iface.entry), units: iface.units, link: uint64(iface.entry.Link)}
	}
	return &looks{all: all}
}

func (l *looks) of(key bpfInterfaceKey) *look {
	if l.last == nil || l.key != key {
		on := l.all[key]
		l.last, l.key = &on, key
	}
	return l.last
}

// takeRows returns memory for n rows, from free if there is enough.
func takeRows(free *[]row, n int) []row {
	if len(*free) < n {
		return make([]row, 0, n) // a process needs more if its series began at different times
	}
	taken := (*free)[:0:n]
	*free = (*free)[n:]
	return taken
}

// addUsages adds what a process moved to the usages of others. The series of an interface that
// have begun again have another start, so they are a usage of their own.
func (l *ledger) addUsages(all []usage, one *life, looks *looks, free *[]row) []usage {
	others, series := len(all), one.series
	for _, entry := range one.entries {
		key := entry.bpfTrafficKey
		state := l.rows[key]
		c := less(state.of(entry.bpfCount), state.before)
		if state.turned && c == (bpfCount{}) {
			continue
		}
		on := looks.of(key.iface())
		from := max(series.start, series.begun[on.interfaceIdentity])
		of := others
		for of < len(all) && all[of].start != from {
			of++
		}
		if of == len(all) {
			all = append(all, usage{process: *one.process, start: from, rows: takeRows(free, len(one.entries))})
		}
		u := &all[of]
		u.rows = append(u.rows, row{
			interfaceName: on.name,
			netnsInode:    on.netnsInode,
			direction:     bpfDirection(key.Direction),
			transport:     key.Transport,
			networkType:   key.Type,
			quantity:      on.units[key.Direction].of(c, on.link),
		})
	}
	for i := range all[others:] {
		u := &all[others+i]
		sortRows(u.rows)
		u.rows = unitedRows(u.rows)
	}
	return all
}

// unitedRows adds up neighbouring rows of the same series.
func unitedRows(rows []row) []row {
	all := rows[:0]
	for _, r := range rows {
		last := len(all) - 1
		if last >= 0 && all[last].series() == r.series() {
			all[last].add(r.quantity)
		} else {
			all = append(all, r)
		}
	}
	return all
}

// series is what identifies the series of a row: the row without its amounts.
func (r row) series() row {
	r.quantity = quantity{}
	return r
}

func sortRows(rows []row) {
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.netnsInode, b.netnsInode), cmp.Compare(a.interfaceName, b.interfaceName),
			cmp.Compare(a.direction, b.direction), cmp.Compare(a.networkType, b.networkType),
			cmp.Compare(a.transport, b.transport))
	})
}

// fate is how packets that were seen were counted.
type fate struct {
	booked   uint64 // in a series
	overflow uint64 // of these, packets for whose process there was no place
}

func (f *fate) add(other fate) {
	f.booked += other.booked
	f.overflow += other.overflow
}

// fate counts only what was sent, since what was received is in ACCOUNT_ARRIVED.
func (k bpfTrafficKey) fate(c bpfCount) fate {
	if bpfDirection(k.Direction) != bpfDirectionTRANSMIT {
		return fate{}
	}
	return fate{booked: c.Packets}
}

func (k bpfAccountKey) fate(c bpfCount) (f fate) {
	if k.Account == bpfAccountACCOUNT_ARRIVED || k.Direction == bpfDirectionTRANSMIT {
		f.booked = c.Packets
	}
	if k.Account == bpfAccountACCOUNT_OVERFLOW {
		f.overflow = c.Packets
	}
	return f
}

// totals returns how the packets since the start were counted: how many are in a series, and how
// many of a process for which there was no room.
func (l *ledger) totals(s *snapshot) (aggregated, overflow uint64) {
	total := l.forgotten
	for key, c := range s.traffic {
		total.add(key.fate(c))
	}
	for key, c := range s.accounts {
		total.add(key.fate(c))
	}
	return total.booked - total.overflow, total.overflow
}

// forget adds to the totals what is in a snapshot for the last time: the entries of
// departing processes and of interfaces that have ended.
func (l *ledger) forget(s *snapshot, departing map[uint64]owner.Process) {
	for key, c := range s.traffic {
		if _, last := departing[key.Number]; last {
			l.forgotten.add(key.fate(c))
		}
	}
	for key, c := range s.accounts {
		if l.hasEnded(key.iface()) {
			l.forgotten.add(key.fate(c))
		}
	}
}

func sortUsages(usages []usage) {
	slices.SortFunc(usages, func(a, b usage) int {
		if byPID := cmp.Compare(a.process.ID.PID, b.process.ID.PID); byPID != 0 {
			return byPID // nearly always true
		}
		return cmp.Or(cmp.Compare(a.process.ID.StartNanos, b.process.ID.StartNanos),
			cmp.Compare(a.process.Seen.FirstNanos, b.process.Seen.FirstNanos), cmp.Compare(a.start, b.start))
	})
}

func sortedInterfaces[V any](interfaces map[bpfInterfaceKey]V) []bpfInterfaceKey {
	return slices.SortedFunc(maps.Keys(interfaces), func(a, b bpfInterfaceKey) int {
		return cmp.Or(cmp.Compare(a.Netns, b.Netns), cmp.Compare(a.Ifindex, b.Ifindex))
	})
}
