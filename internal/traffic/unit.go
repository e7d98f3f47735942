// SPDX-License-Identifier: Apache-2.0

package traffic

import "math"

// unit is what a device's own counter counts in one direction.
//
// An skb that GSO turns into several frames is one packet to lo, veth, virtio_net and ENA. Most
// other hardware counts the frames, with the headers of each. Most devices count the link header.
// Tunnels do not, nor do a bridge, a VLAN and a veth that is polled for what they receive.
type unit struct {
	frames property
	bare   property // without the link header
}

// property is one answer to a question about a unit.
type property struct {
	is    bool
	known bool   // the answer is final
	since uint64 // how many packets had moved when the answer first seemed to be the unusual one
	guess bool   // it was published when there was no counter to compare it with
}

// of converts c to this unit, for a device whose link header has link bytes.
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

// learnUnits compares the accounts of each interface with its counter as soon as the units
// differ, and takes the nearest unit for good, because a series must not jump. If no
// counter can be read it goes by the kind of the device until one can be read; if that was
// wrong, the series begin again.
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

// usualUnit completes u, as far as it is not known, with the unit that devices of this kind
// usually have.
func usualUnit(u unit, entry bpfInterfaceEntry, direction bpfDirection) unit {
	if !u.frames.known && !u.frames.guess {
		u.frames.is = entry.Hardware != 0
	}
	if !u.bare.known && !u.bare.guess {
		u.bare.is = direction == bpfDirectionRECEIVE && entry.Bare != 0
	}
	return u
}

// goBy records that moved was published in this unit, which may turn out to be wrong.
func (u *unit) goBy(moved bpfCount) {
	u.frames.guess = u.frames.guess || !u.frames.known && moved.Bytes != moved.FrameBytes
	u.bare.guess = u.bare.guess || !u.bare.known && moved.Packets != 0
}

// refutes reports whether a guess that was published in the unit other was wrong.
func (u unit) refutes(other unit) bool {
	return other.frames.guess && other.frames.is != u.frames.is || other.bare.guess && other.bare.is != u.bare.is
}

// candidate is a unit in which a counter may count, and the distance in bytes between the
// counter and the accounts in that unit.
type candidate struct {
	unit
	distance int64
}

// candidates returns all units that a counter may have, given what is known of u.
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

// least returns the smallest distance of the candidates that have a property, and of those
// that do not have it.
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

// learn chooses the unit in which the accounts agree with what the device counted. If
// neither answer is clearly nearer, the unit stays as it is for good. If both are possible,
// because too much has moved while the accounts were read, it takes the answer that counts
// less and decides later.
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

// choose takes the answer whose distance (yes, no) is clearly smaller, and otherwise the
// usual one. If both distances are zero it is lesser, the answer that counts less, and the
// property stays undecided. It also stays undecided if the unusual answer is nearer without
// being exact, because a packet on its way between the accounts and the counter can make up
// the difference. It cannot when four times as many packets have moved.
func (a *property) choose(yes, no int64, lesser bool, packets uint64) {
	if a.guess {
		lesser = a.is // that answer was published already
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

// distance returns how far q is outside of the span, in bytes. A packet counts as much as the
// smallest headers.
func (s span) distance(q quantity) int64 {
	const headers = 54
	return outside(s.from.bytes, s.to.bytes, signed(q.bytes)) +
		headers*outside(s.from.packets, s.to.packets, signed(q.packets))
}

func outside(from, to, n int64) int64 { return max(0, from-n, n-to) }

// moved returns everything that moved in one direction, on any account.
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
