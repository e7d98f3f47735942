// SPDX-License-Identifier: Apache-2.0

package traffic

import "slices"

// interfacePhase is where an interface is in its life:
//
//	          a survey or a packet          it has a baseline
//	unmet --------------------------> new -------------------> live
//	                                   ^                         |
//	 found or used again, what it was  |                         | not found any more, or another
//	 before is not counted again       |                         | one looks as it did
//	                                   +------- ended <----------+
//	                                              |
//	                                              v  no process has an entry with it any more
//	                                          forgotten: it is not in the ledger
//
// All new interfaces become live in the same post. A live one has series, and stays live when
// these have to begin anew (see anew.go).
type interfacePhase int

const (
	interfaceUnmet interfacePhase = iota // only what processes moved on it is known
	interfaceNew
	interfaceLive
	interfaceEnded // its name and its unit are kept for the processes that used it
)

// networkInterface is everything that the ledger knows of an interface.
type networkInterface struct {
	phase   interfacePhase
	entry   bpfInterfaceEntry  // what its series show
	renamed *bpfInterfaceEntry // what they show from the next report on; nil means the same
	retired [2]bpfCount        // what departed processes moved
	before  bookings           // what was booked before its series began, and is not in them

	units     [2]unit  // the unit of its own counter, by direction
	relearned *[2]unit // the correct unit, if its series have another one

	// These fields are for a live interface.
	baseline  baseline
	born      uint64 // series start, in ns since boot
	unclaimed unclaimed
	movement  movement
	spoken    statement // what was last published

	// These fields are for the snapshot that is being posted.
	booked   bookings
	readings [2]reading
	inFlight bpfCount // has arrived, and may still be claimed
}

// unclaimed is what has arrived and belongs to no other account, as it was counted and as it was
// published. What was published must not decrease.
type unclaimed struct {
	bpfCount
	said quantity
}

// movement is when an interface's accounts last changed.
type movement struct {
	at      uint64 // ns since boot; 0 means never
	packets uint64
}

// hasEnded reports whether an interface has no accounts any more.
func (l *ledger) hasEnded(key bpfInterfaceKey) bool {
	iface, known := l.interfaces[key]
	return known && iface.phase == interfaceEnded
}

// anyHasEnded reports whether this is so for any interface that is not forgotten.
func (l *ledger) anyHasEnded() bool {
	for key := range l.interfaces {
		if l.hasEnded(key) {
			return true
		}
	}
	return false
}

// current returns the entry of the interface in the last survey.
func (i *networkInterface) current() bpfInterfaceEntry {
	if i.renamed != nil {
		return *i.renamed
	}
	return i.entry
}

// quantity converts c to the unit of the interface's own counter.
func (i *networkInterface) quantity(direction bpfDirection, c bpfCount) quantity {
	return i.units[direction].of(c, uint64(i.entry.Link))
}

// find enters what the survey or a packet told about the interface. If it has another name now it
// keeps the old one until its series have reported their last points.
func (i *networkInterface) find(entry bpfInterfaceEntry) {
	switch {
	case i.phase == interfaceUnmet:
		i.phase = interfaceNew
	case i.entry.name() != entry.name():
		i.renamed = &entry
		i.entry.Epoch = entry.Epoch
		return
	}
	i.entry = entry
}

// begin gives a new interface the baseline of its accounts. It had nothing to report at the last
// post.
func (i *networkInterface) begin(base baseline, posted uint64) {
	i.phase, i.baseline, i.born = interfaceLive, base, posted
}

// end ends its accounts. rows are what the entries of processes contain for it. What they moved is
// kept in case the interface returns.
func (i *networkInterface) end(rows bookings) {
	*i = networkInterface{phase: interfaceEnded, entry: i.entry, renamed: i.renamed, units: i.units, before: rows}
}

// turn lets its series begin anew. What waits for an account is in the new ones.
func (i *networkInterface) turn(now uint64) {
	for d := range i.baseline {
		i.baseline[d].beginAfter(i.baseline[d].sums)
	}
	before := i.before.copy()
	for account, c := range i.booked {
		if account == bpfAccountACCOUNT_WAITING || account == bpfAccountACCOUNT_ARRIVED {
			continue
		}
		for d := range c {
			before.add(account, bpfDirection(d), c[d])
		}
	}
	arrived := plus(i.booked.claimed(bpfDirectionRECEIVE), i.unclaimed.bpfCount)
	before.add(bpfAccountACCOUNT_ARRIVED, bpfDirectionRECEIVE, arrived)
	i.before, i.born = before, now
	if i.relearned != nil {
		i.units = *i.relearned
	}
	i.unclaimed, i.movement, i.spoken = unclaimed{}, movement{}, statement{}
}

// show lets the series that have begun anew show the present entry.
func (i *networkInterface) show() {
	i.entry = i.current()
	i.renamed, i.relearned = nil, nil
}

// measure enters what was booked, and compares it with the counter.
func (i *networkInterface) measure(now uint64) {
	i.measureUnclaimed()
	sums := i.sums()
	for d := range i.baseline {
		direction := bpfDirection(d)
		of := func(c bpfCount) quantity { return i.quantity(direction, c) }
		o, r := &i.baseline[d], i.readings[d]
		o.read(r, of) // what was known may begin with this reading
		o.sums = tallyOf(sums[d])
		if r.readable {
			o.said = o.unobserved(sums[d])
			o.wait = tallyOf(of(i.waiting(direction)))
		}
	}
	if packets := i.booked.packets(); i.movement.at == 0 || i.movement.packets != packets {
		i.movement = movement{at: now, packets: packets}
	}
}

// measureUnclaimed computes what has arrived and can belong to no other account. Because the maps
// are read one after another, the result can be lower than before. It is never too high, so that
// the earlier value remains valid then.
func (i *networkInterface) measureUnclaimed() {
	const direction = bpfDirectionRECEIVE
	claimed := plus(i.booked.claimed(direction), i.waiting(direction))
	u := &i.unclaimed
	u.bpfCount = most(u.bpfCount, less(i.booked.of(bpfAccountACCOUNT_ARRIVED, direction), claimed))
	now := i.quantity(direction, u.bpfCount)
	u.said = quantity{packets: max(u.said.packets, now.packets), bytes: max(u.said.bytes, now.bytes)}
}

// waiting returns what has moved and is on no account yet.
func (i *networkInterface) waiting(direction bpfDirection) bpfCount {
	c := i.booked.of(bpfAccountACCOUNT_WAITING, direction)
	if direction == bpfDirectionRECEIVE {
		c = plus(c, i.inFlight)
	}
	return c
}

// sums returns what is on published accounts, by direction.
func (i *networkInterface) sums() (sums [2]quantity) {
	for _, a := range i.accountRows() {
		sums[a.direction].add(a.quantity)
	}
	return sums
}

// isGone reports whether the survey of its namespace did not find it and nothing has moved on it
// recently. A namespace without a process is not surveyed; there it is enough that nothing has
// moved.
func (i *networkInterface) isGone(surveyed bool, s *snapshot) bool {
	silent := s.now - i.movement.at
	return i.entry.Epoch < s.epoch && silent != 0 && (surveyed || silent > quietEnough)
}

// hasSaid reports whether these accounts were published before.
func (i *networkInterface) hasSaid(st statement) bool {
	return slices.Equal(st.accounts, i.spoken.accounts)
}
