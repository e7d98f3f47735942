// SPDX-License-Identifier: Apache-2.0

package traffic

import "math"

// unit is what a device's own counter counts in one direction.
//
// An skb that GSO makes into several frames is one packet to lo, veth, virtio_net
// and ENA; most other hardware counts the frames, with the headers of each. The
// link header is counted by most, but not by tunnels, nor in what a bridge, a
// VLAN and a veth that is polled receive.
type unit struct {
	frames property
	bare   property // without the link header
}

// property is one answer about a unit.
type property struct {
	is    bool
	known bool   // for good
	since uint64 // how many packets had moved when it first seemed to be unusual
	guess bool   // was published while there was nothing to hold it against
}

// of is c in this unit, on a device with so long a link header.
func (u unit) of(c bpfCount, link uint64) quantity {
	q := quantity{packets: c.Packets, bytes: c.Bytes}
	if u.frames.is {
		q = quantity{packets: c.Frames, bytes: c.FrameBytes}
	}
	if u.bare.is {
		q.bytes -= q.packets * link
	}
	return q
}

// learnUnits holds the accounts of each interface against its counter the first
// time there is a difference between units, and keeps to the nearest: a series
// must not jump. Where no counter can be read it goes by the kind of the device until
// one can be: if that was wrong, the series begin anew.
func (l *ledger) learnUnits() {
	for _, iface := range l.interfaces {
		if iface.phase == interfaceLive {
			iface.learnUnits()
		}
	}
}

func (i *networkInterface) learnUnits() {
	was, now := i.units, i.units
	link := uint64(i.entry.Link)
	for d := range now {
		o, r := &i.baseline[d], i.readings[d]
		now[d] = usualUnit(now[d], i.entry, bpfDirection(d))
		if r.readable && o.known {
			counted, moved := o.since(r, func(c bpfCount) quantity { return was[d].of(c, link) })
			now[d].learn(counted, moved, link)
		} else {
			now[d].goBy(r.moved)
		}
	}
	if now[0].refutes(was[0]) || now[1].refutes(was[1]) {
		i.relearned = &now
		return
	}
	for d := range now {
		o := &i.baseline[d]
		o.move(tallyOf(was[d].of(o.accounted, link)).minus(tallyOf(now[d].of(o.accounted, link))))
	}
	i.units = now
}

// usualUnit is what devices of this kind count, as far as u is not known.
func usualUnit(u unit, entry bpfInterfaceEntry, direction bpfDirection) unit {
	if !u.frames.known && !u.frames.guess {
		u.frames.is = entry.Hardware != 0
	}
	if !u.bare.known && !u.bare.guess {
		u.bare.is = direction == bpfDirectionRECEIVE && entry.Bare != 0
	}
	return u
}

// goBy publishes what moved in this unit, which may turn out to be wrong.
func (u *unit) goBy(moved bpfCount) {
	u.frames.guess = u.frames.guess || !u.frames.known && moved.Bytes != moved.FrameBytes
	u.bare.guess = u.bare.guess || !u.bare.known && moved.Packets != 0
}

// refutes says that what was published in another unit was a wrong guess.
func (u unit) refutes(other unit) bool {
	return other.frames.guess && other.frames.is != u.frames.is || other.bare.guess && other.bare.is != u.bare.is
}

// candidate is a unit that a counter may have, and how far what it says is from what the
// accounts have in that unit, in bytes.
type candidate struct {
	unit
	distance int64
}

// candidates are all units that a counter may have that has u as far as it is known.
func (u unit) candidates(counted span, moved bpfCount, link uint64) []candidate {
	var all []candidate
	for _, frames := range u.frames.candidates() {
		for _, bare := range u.bare.candidates() {
			other := unit{frames: frames, bare: bare}
			all = append(all, candidate{other, counted.distance(other.of(moved, link))})
		}
	}
	return all
}

func (a property) candidates() []property {
	if a.known {
		return []property{a}
	}
	return []property{{is: false}, {is: true}}
}

// least returns how far the nearest candidate is that has a property, and the nearest that has not.
func least(all []candidate, of func(unit) property) (with, without int64) {
	with, without = math.MaxInt64, math.MaxInt64
	for _, one := range all {
		if of(one.unit).is {
			with = min(with, one.distance)
		} else {
			without = min(without, one.distance)
		}
	}
	return with, without
}

// learn chooses the unit in which moved is what the device counted. It stays with
// u, for good, where neither unit is clearly nearer; and where both would do,
// because too much has moved while the accounts were read, it waits with the lesser.
func (u *unit) learn(counted span, moved bpfCount, link uint64) {
	candidates := u.candidates(counted, moved, link)
	if !u.frames.known && moved.Bytes != moved.FrameBytes {
		frames, skbs := least(candidates, func(u unit) property { return u.frames })
		u.frames.choose(frames, skbs, false, moved.Packets)
	}
	if !u.bare.known && moved.Packets != 0 && link != 0 {
		bare, whole := least(candidates, func(u unit) property { return u.bare })
		u.bare.choose(bare, whole, true, moved.Packets)
	}
}

// choose decides for the answer that is clearly nearer, and else for the usual
// one. If both are right it is lesser, until more is known. So it is if the unusual
// one is nearer and not right: a packet on its way between the accounts and the
// counter may weigh just the difference, though not of four times as many packets.
func (a *property) choose(yes, no int64, lesser bool, packets uint64) {
	if a.guess {
		lesser = a.is // it was said
	}
	nearer := a.is
	switch {
	case yes == 0 && no == 0:
		*a = property{is: lesser, guess: a.guess}
		return
	case 2*yes < no:
		nearer = true
	case 2*no < yes:
		nearer = false
	}
	if a.since == 0 {
		a.since = packets
	}
	if nearer == a.is || min(yes, no) == 0 || packets >= 4*a.since {
		*a = property{is: nearer, known: true}
		return
	}
	a.is = lesser
}

// distance is how far outside of the span q is, in bytes. A packet weighs what
// the least of headers do.
func (s span) distance(q quantity) int64 {
	const headers = 54
	return outside(s.from.bytes, s.to.bytes, signed(q.bytes)) +
		headers*outside(s.from.packets, s.to.packets, signed(q.packets))
}

func outside(from, to, n int64) int64 { return max(0, from-n, n-to) }

// moved is all that went one way, whoever's it was.
func (b bookings) moved(direction bpfDirection) bpfCount {
	if direction == bpfDirectionRECEIVE {
		return b.of(bpfAccountACCOUNT_ARRIVED, direction)
	}
	var sum bpfCount
	for account := range b {
		sum = plus(sum, b.of(account, direction))
	}
	return sum
}
