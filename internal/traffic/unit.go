package traffic

// unit is what a device's own counter counts in one direction.
//
// An skb that GSO makes into several frames is one packet to lo, veth, virtio_net
// and ENA; most other hardware counts the frames, with the headers of each. The
// link header is counted by most, but not by tunnels, nor in what a bridge, a
// VLAN and a veth that is polled receive.
type unit struct {
	frames, framesKnown bool
	bare, bareKnown     bool // without the link header
}

// of is c in this unit, on a device with so long a link header.
func (u unit) of(c bpfCount, link uint64) quantity {
	q := quantity{packets: c.Packets, bytes: c.Bytes}
	if u.frames {
		q = quantity{packets: c.Frames, bytes: c.FrameBytes}
	}
	if u.bare {
		q.bytes -= q.packets * link
	}
	return q
}

// quantity is c as the interface itself counts it.
func (l *ledger) quantity(key bpfInterfaceKey, direction bpfDirection, c bpfCount) quantity {
	return l.units[key][direction].of(c, uint64(l.interfaces[key].Link))
}

// learnUnits holds the books of each interface against its counter the first
// time there is a difference between units, and keeps to the nearest: a series
// must not jump. Where no counter can be read it goes by the kind of the device.
func (l *ledger) learnUnits(s *snapshot, sheets map[bpfInterfaceKey]sheet) {
	for key, entry := range l.interfaces {
		own, readable := s.counters[key.Netns][entry.name()]
		base, known := l.baseline[key]
		readable = readable && (known || l.isNew(entry))
		units := l.units[key]
		for d := range units {
			moved := sheets[key].moved(bpfDirection(d))
			usual := usualUnit(units[d], entry, bpfDirection(d))
			units[d] = usual
			if readable {
				units[d] = usual.nearest(signed(own[d].bytes)-base.bytes[d], moved, uint64(entry.Link))
			}
			units[d].settle(moved)
		}
		l.units[key] = units
	}
}

// usualUnit is what devices of this kind count, as far as u is not known.
func usualUnit(u unit, entry bpfInterfaceEntry, direction bpfDirection) unit {
	if !u.framesKnown {
		u.frames = entry.Hardware != 0
	}
	if !u.bareKnown {
		u.bare = direction == bpfDirectionRECEIVE && entry.Bare != 0
	}
	return u
}

// nearest returns the unit in which moved is nearest to what the device counted.
// It stays with u unless another one is clearly nearer: the books and the counter
// are not read at the same moment.
func (u unit) nearest(counted int64, moved bpfCount, link uint64) unit {
	best, distance := u, abs(counted-signed(u.of(moved, link).bytes))
	for _, frames := range []bool{false, true} {
		for _, bare := range []bool{false, true} {
			other := u
			if !u.framesKnown {
				other.frames = frames
			}
			if !u.bareKnown {
				other.bare = bare
			}
			if far := abs(counted - signed(other.of(moved, link).bytes)); 2*far < distance {
				best, distance = other, far
			}
		}
	}
	return best
}

// settle makes known what moved has told.
func (u *unit) settle(moved bpfCount) {
	u.framesKnown = u.framesKnown || moved.Bytes != moved.FrameBytes
	u.bareKnown = u.bareKnown || moved.Packets != 0
}

func abs(n int64) int64 { return max(n, -n) }

// moved is all that went one way, whoever's it was.
func (sh sheet) moved(direction bpfDirection) bpfCount {
	if direction == bpfDirectionRECEIVE {
		return sh.of(bpfAccountACCOUNT_ARRIVED, direction)
	}
	var sum bpfCount
	for account := range sh {
		sum = plus(sum, sh.of(account, direction))
	}
	return sum
}
