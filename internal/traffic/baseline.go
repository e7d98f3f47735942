// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"cmp"
	"slices"
)

// refresh is how long a counter must not have changed, in ns, before its value is final:
// some drivers update theirs only every second or two.
const refresh = 2e9

// trial is for how long, in ns, an origin learns how many packets can be on their way
// between the accounts and the counter.
const trial = 30e9

// namespaceLimit is how many network namespaces are remembered.
const namespaceLimit = 1 << 16

// baseline is the value of an interface's own counter when its accounts began, by
// direction.
type baseline [2]origin

// origin is the value of a counter in one direction when the accounts began.
//
// It is computed from the accounts and from two readings of the counter, one before and
// one after the accounts were read, so it lies between two numbers. Later readings that
// are closer together correct it, but only within these numbers: any greater difference is
// unobserved. It is exact once the interface was idle for a while, except for packets that
// the counter had and the hooks did not have yet during all of that time. These show when
// the accounts have more than the counter.
type origin struct {
	known     bool
	exact     bool
	at        tally    // the assumed value
	within    span     // the bounds of the true value
	accounted bpfCount // what the accounts had when it was read
	first     uint64   // when it was first known, in ns since boot
	onWay     tally    // what moves in a second: so much may be on its way to the counter
	least     tally    // the lower bound of corrections after it is exact
	said      tally    // what was last reported as unobserved
	wait      tally    // the part of said that waited for an account
	sums      tally    // what was last reported on the accounts
	last      reading
	change    uint64 // when anything last moved, in ns since boot
}

// reading is what a counter said before the accounts were read, and after.
type reading struct {
	now            uint64 // ns since boot
	earlier, later quantity
	moved          bpfCount
	readable       bool
}

// span is what a device had counted before the accounts were read, and after.
type span struct{ from, to tally }

// tally is signed, because a counter that starts again can be below its baseline.
type tally struct{ packets, bytes int64 }

func tallyOf(q quantity) tally { return tally{packets: signed(q.packets), bytes: signed(q.bytes)} }

func (t tally) plus(other tally) tally {
	return tally{packets: t.packets + other.packets, bytes: t.bytes + other.bytes}
}

func (t tally) minus(other tally) tally {
	return tally{packets: t.packets - other.packets, bytes: t.bytes - other.bytes}
}

// into returns the value within s that is nearest to t.
func (t tally) into(s span) tally {
	return tally{
		packets: min(max(t.packets, s.from.packets), s.to.packets),
		bytes:   min(max(t.bytes, s.from.bytes), s.to.bytes),
	}
}

func (s span) minus(t tally) span { return span{from: s.from.minus(t), to: s.to.minus(t)} }

func (s span) width() tally { return s.to.minus(s.from) }

// middle is the best guess of a value that lies in the span.
func (s span) middle() tally {
	width := s.width()
	return s.from.plus(tally{packets: width.packets / 2, bytes: width.bytes / 2})
}

// counted is what the counter said while the accounts were read.
func (r reading) counted() span { return span{from: tallyOf(r.earlier), to: tallyOf(r.later)} }

// move shifts an origin.
func (o *origin) move(by tally) {
	o.at = o.at.plus(by)
	o.within = span{from: o.within.from.plus(by), to: o.within.to.plus(by)}
	o.least = o.least.plus(by)
}

// resume continues from the current value of a counter that has started again.
func (o *origin) resume(r reading) {
	if r.readable && (r.later.packets < o.last.later.packets || r.later.bytes < o.last.later.bytes) {
		o.move(tallyOf(r.later).minus(tallyOf(o.last.later)))
		o.last, o.change = r, r.now
	}
}

// read takes in a reading. of converts the accounts to the unit of the counter.
func (o *origin) read(r reading, of func(bpfCount) quantity) {
	if !r.readable {
		return
	}
	o.watch(r, of)
	pair := r.counted().minus(tallyOf(of(r.moved)))
	switch {
	case !o.known:
		*o = origin{known: true, at: pair.middle(), within: pair, accounted: r.moved, first: r.now, last: o.last, change: o.change}
	case o.exact && r.now-o.change >= refresh:
		o.lower(pair.from)
	case o.exact:
	case r.now-o.change >= refresh:
		reach := span{from: o.within.from.minus(o.onWay), to: o.within.to.plus(o.onWay)}
		o.at = pair.from.into(reach)
		o.within = span{from: o.at, to: o.at}
		o.least = o.at.minus(o.onWay)
		o.exact = true
	case pair.width().packets < o.within.width().packets || pair.width().bytes < o.within.width().bytes:
		o.narrow(pair)
	}
}

// lower corrects an exact origin by packets that the counter already had when the origin
// became exact, and that have been accounted since.
func (o *origin) lower(to tally) {
	if to.packets < o.at.packets {
		o.at = to.into(span{from: o.least, to: o.at})
		o.within = span{from: o.at, to: o.at}
	}
}

// watch records whether anything moves, and how much in a second.
func (o *origin) watch(r reading, of func(bpfCount) quantity) {
	before := o.last
	o.last = r
	if r.earlier != r.later || before.later != r.later || before.moved != r.moved || !before.readable {
		o.change = r.now
	}
	took := float64(r.now-before.now) / 1e9
	if !before.readable || took <= 0 || o.exact || o.known && before.now-o.first > trial {
		return
	}
	moved := tallyOf(of(r.moved)).minus(tallyOf(of(before.moved)))
	o.onWay.packets = max(o.onWay.packets, int64(float64(moved.packets)/took))
	o.onWay.bytes = max(o.onWay.bytes, int64(float64(moved.bytes)/took))
}

// narrow corrects an origin by a pair that is closer together, within the old bounds.
func (o *origin) narrow(pair span) {
	o.within = span{from: pair.from.into(o.within), to: pair.to.into(o.within)}
	o.at = o.within.middle()
}

// unobserved returns by how much the counter exceeds sums. The counter changed while the
// accounts were read, so there is a range of answers; it is the one that is nearest to what
// was reported before.
func (o *origin) unobserved(sums quantity) tally {
	return o.said.into(o.last.counted().minus(o.at).minus(tallyOf(sums)))
}

// meet gives each new interface its baseline, if it is known already, and adapts the
// baselines of counters that have started again.
func (l *ledger) meet(s *snapshot) {
	keys := sortedInterfaces(l.interfaces)
	slices.SortStableFunc(keys, func(a, b bpfInterfaceKey) int { // what one was before it moved comes first
		return cmp.Compare(l.interfaces[a].current().Epoch, l.interfaces[b].current().Epoch)
	})
	for _, key := range keys {
		iface := l.interfaces[key]
		if iface.phase == interfaceNew {
			iface.begin(l.firstBaseline(key, s), l.previous.now)
		}
		if iface.phase == interfaceLive {
			for d := range iface.baseline {
				iface.baseline[d].resume(iface.readings[d])
			}
		}
	}
	l.meetNamespaces(s)
}

// meetNamespaces remembers which network namespaces are not new any more.
func (l *ledger) meetNamespaces(s *snapshot) {
	if len(l.met) > namespaceLimit {
		clear(l.met)
	}
	for netns := range s.namespaces {
		l.met[netns] = true
	}
	for key, iface := range l.interfaces {
		if iface.phase != interfaceUnmet {
			l.met[key.Netns] = true
		}
	}
}

// reading returns what the snapshot says of one direction of an interface.
func (s *snapshot) reading(netns uint64, name string, direction bpfDirection, booked bookings) reading {
	later, readable := s.counters[netns][name]
	earlier, both := s.earlier[netns][name]
	if !both || earlier[direction].packets > later[direction].packets || earlier[direction].bytes > later[direction].bytes {
		earlier = later
	}
	return reading{
		now: s.now, earlier: earlier[direction], later: later[direction],
		moved: booked.moved(direction), readable: readable,
	}
}

// firstBaseline returns the baseline of an interface when it is met. If its namespace was
// read at the previous collection, there are two cases: the interface had a counter then, and
// the accounts had nothing of it; or the interface is new, and its counter began at zero.
// The latter holds in a new namespace, too. In other cases the baseline is not known: in a
// namespace that was not read the interface may be old, and a hardware device may have come
// from another namespace.
func (l *ledger) firstBaseline(key bpfInterfaceKey, s *snapshot) baseline {
	if !l.open {
		return baseline{}
	}
	if from, moved := l.movedFrom(key, s); moved {
		return from.after()
	}
	entry := l.interfaces[key].current()
	counters, read := l.previous.later[key.Netns]
	_, readable := s.counters[key.Netns]
	if !read && (!readable || l.processless[entry.NetnsInode] || l.met[key.Netns]) {
		return baseline{}
	}
	later, old := counters[entry.name()]
	earlier, both := l.previous.earlier[key.Netns][entry.name()]
	switch isNew := !old || l.isTaken(key, entry); {
	case isNew && entry.Hardware != 0:
		return baseline{}
	case isNew:
		return baseline{{known: true, exact: true}, {known: true, exact: true}}
	}
	if !both {
		earlier = later
	}
	var base baseline
	for d := range base {
		base[d].read(reading{now: l.previous.now, earlier: earlier[d], later: later[d], readable: true}, wholly)
	}
	return base
}

func wholly(bpfCount) quantity { return quantity{} }

// isTaken says that another interface had the name before.
func (l *ledger) isTaken(key bpfInterfaceKey, entry bpfInterfaceEntry) bool {
	for other, before := range l.interfaces {
		if other != key && other.Netns == key.Netns && before.phase == interfaceLive && before.entry.name() == entry.name() {
			return true
		}
	}
	return false
}

// movedFrom finds out which interface of another network namespace a new one was before.
// An interface can be moved from a namespace that still exists, and a hardware device goes
// back to the first namespace when its namespace ends. The counter goes on in both cases.
// The interface keeps its index if that is free. Otherwise only the name is the same, which
// other interfaces may have as well, so the values of the counters are compared.
func (l *ledger) movedFrom(key bpfInterfaceKey, s *snapshot) (from *networkInterface, moved bool) {
	iface := l.interfaces[key]
	sent, got := iface.readings[bpfDirectionTRANSMIT], iface.readings[bpfDirectionRECEIVE]
	if !sent.readable {
		return nil, false
	}
	for _, at := range sortedInterfaces(l.interfaces) {
		other := l.interfaces[at]
		if other.phase != interfaceLive || at.Netns == key.Netns || !other.baseline[0].known || !other.baseline[1].known {
			continue
		}
		before := other.current()
		returns := s.isDead(at.Netns) && before.Hardware != 0
		left := before.Epoch < s.epoch && s.namespaces[at.Netns].Epoch == s.epoch
		if !left && !returns {
			continue
		}
		after := other.after()
		hadSent, hadGot := after[bpfDirectionTRANSMIT].at, after[bpfDirectionRECEIVE].at
		switch {
		case hadSent == tally{} && hadGot == tally{}:
		case at.Ifindex == key.Ifindex && hadSent.isIn(sent.later) && hadGot.isIn(got.later),
			before.name() == iface.current().name() && hadSent.isBefore(sent) && hadGot.isBefore(got):
			return other, true
		}
	}
	return nil, false
}

// after returns the baseline of an interface that was this one before: its counter goes on,
// and its accounts begin where those of this one end.
func (i *networkInterface) after() baseline {
	base := i.baseline
	for d := range base {
		direction := bpfDirection(d)
		base[d].beginAfter(tallyOf(i.quantity(direction, i.booked.moved(direction))))
	}
	return base
}

func (t tally) isIn(q quantity) bool {
	return t.packets <= signed(q.packets) && t.bytes <= signed(q.bytes)
}

// isBefore says whether t is what the counter had before the accounts of r began.
func (t tally) isBefore(r reading) bool {
	moved := tally{packets: signed(r.moved.Packets), bytes: signed(r.moved.Bytes)}
	return t == t.into(r.counted().minus(moved))
}

// beginAfter lets new accounts begin, when the earlier ones have accounted.
func (o *origin) beginAfter(accounted tally) {
	o.move(accounted.plus(o.said).minus(o.wait))
	o.accounted, o.said, o.wait, o.sums = bpfCount{}, tally{}, tally{}, tally{}
	o.last.moved = bpfCount{}
}

// since returns by how much the counter has grown since it was first read, and what the
// accounts have got since then. of converts to the unit that the accounts had at that time.
func (o *origin) since(r reading, of func(bpfCount) quantity) (counted span, moved bpfCount) {
	began := tallyOf(of(o.accounted))
	counted = r.counted()
	counted.from = counted.from.minus(o.within.to.plus(began))
	counted.to = counted.to.minus(o.within.from.plus(began))
	return counted, less(r.moved, o.accounted)
}
