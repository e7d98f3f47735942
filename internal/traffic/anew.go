package traffic

import (
	"cmp"
	"maps"
	"slices"
)

// Series of an interface begin anew when what they show of it, or the unit of their
// values, is not what it was: it was renamed, another interface has its name, or the
// guess of a unit was wrong. All series that show the old face say their last, with
// all that has moved until then, and end with the next report. The new ones begin then,
// at zero.

// anew is a process's series on interfaces that look so.
type anew struct {
	face
	on interfaceFace
}

// current is what the last survey said of an interface.
func (l *ledger) current(key bpfInterfaceKey) bpfInterfaceEntry {
	if entry, renamed := l.renamed[key]; renamed {
		return entry
	}
	return l.interfaces[key]
}

// ends returns the faces whose series say their last. So do those of an interface
// whose face another one has now: that one waits for the next report, and has a later
// start by itself, unless both are new.
func (l *ledger) ends(superseded map[bpfInterfaceKey]bpfInterfaceKey) (ends, last map[interfaceFace]bool, waits map[bpfInterfaceKey]bool) {
	ends, last, waits = make(map[interfaceFace]bool), make(map[interfaceFace]bool), make(map[bpfInterfaceKey]bool)
	for key, entry := range l.renamed {
		ends[l.interfaces[key].face()] = true
		ends[entry.face()] = true
	}
	for key := range l.relearned {
		ends[l.interfaces[key].face()] = true
	}
	for key, next := range superseded {
		face := l.interfaces[key].face()
		last[face] = true
		switch {
		case l.born[next] <= l.born[key]:
			ends[face] = true
		case l.interfaces[next].face() == face && !ends[face]:
			waits[next] = true
		}
	}
	for face := range ends {
		last[face] = true
	}
	return ends, last, waits
}

// turnRows lets a process's series begin anew on the interfaces of these faces, and
// returns what the series that end show.
func (l *ledger) turnRows(one life, ends map[interfaceFace]bool, s *snapshot) map[interfaceFace]bool {
	if len(ends) == 0 {
		return nil // as at most times
	}
	shown := make(map[interfaceFace]bool)
	for _, c := range one.entries {
		if entry := l.interfaces[c.iface()]; ends[entry.face()] {
			shown[l.shown(entry)] = true
			shown[l.shown(l.current(c.iface()))] = true
		}
	}
	for _, c := range one.entries {
		if shown[l.shown(l.interfaces[c.iface()])] {
			l.rowsBefore[c.bpfTrafficKey] = l.movedBy(c)
		}
	}
	for face := range shown {
		series := anew{face: one.face, on: face}
		l.begun[series] = max(s.now, l.starts[one.face]+1, l.begun[series]+1) // who is new may have begun since s was
	}
	return shown
}

// parted returns the rows of usages that show these faces, and the others.
func parted(usages []usage, shown map[interfaceFace]bool) (on, off []usage) {
	if len(shown) == 0 {
		return nil, usages
	}
	for _, u := range usages {
		rows := u.rows
		if !slices.ContainsFunc(rows, func(r row) bool { return shown[r.face()] }) {
			off = append(off, u) // as at most times
			continue
		}
		u.rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !shown[r.face()] })
		on = append(on, u)
		u.rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return shown[r.face()] })
		if len(u.rows) != 0 {
			off = append(off, u)
		}
	}
	return on, off
}

func (r row) face() interfaceFace {
	return interfaceFace{netnsInode: r.netnsInode, name: r.interfaceName}
}

// beginAnew begins the series of these faces at zero, now.
func (l *ledger) beginAnew(s *snapshot, sheets map[bpfInterfaceKey]sheet, ends map[interfaceFace]bool, superseded map[bpfInterfaceKey]bpfInterfaceKey) {
	for key, entry := range l.interfaces {
		if _, gone := superseded[key]; gone {
			l.close(key, s)
		} else if ends[entry.face()] && !l.closed[key] {
			l.turn(key, sheets[key], s)
		}
	}
	maps.Copy(l.interfaces, l.renamed)
	clear(l.renamed)
	clear(l.relearned)
	l.posted, l.epoch = s.now, s.epoch
	l.read = readings{earlier: s.earlier, later: s.counters}
	for netns := range s.counters {
		delete(l.processless, s.namespaces[netns].Inode) // what is born in it now is new
	}
}

// turn begins the books of an interface anew. What waits is for the new ones.
func (l *ledger) turn(key bpfInterfaceKey, booked sheet, s *snapshot) {
	base := l.baseline[key]
	for d := range base {
		base[d].beginAfter(base[d].sums)
	}
	before := l.booksBefore[key]
	if before == nil {
		before = make(sheet)
	}
	for account, c := range booked {
		if account == bpfAccountACCOUNT_WAITING || account == bpfAccountACCOUNT_ARRIVED {
			continue
		}
		for d := range c {
			before.add(account, bpfDirection(d), c[d])
		}
	}
	arrived := plus(booked.claimed(bpfDirectionRECEIVE), l.unclaimed[key].bpfCount)
	before.add(bpfAccountACCOUNT_ARRIVED, bpfDirectionRECEIVE, arrived)
	l.booksBefore[key] = before
	if units, wrong := l.relearned[key]; wrong {
		l.units[key] = units
	}
	l.born[key] = s.now
	delete(l.unclaimed, key)
	delete(l.moved, key)
	delete(l.spoken, key)
}

// unite adds up the statements of each face that says its last, which are one for who
// reads them, and returns those apart too.
func unite(statements []statement, ends map[interfaceFace]bool) (all, ending []statement) {
	for _, st := range statements {
		if ends[st.face()] {
			ending = append(ending, st)
		} else {
			all = append(all, st)
		}
	}
	ending = united(ending)
	return append(all, ending...), ending
}

// united adds up the statements of each face.
func united(statements []statement) []statement {
	type face struct {
		interfaceFace
		stacked bool
	}
	index := make(map[face]int)
	var all []statement
	for _, st := range statements {
		at := face{st.face(), st.stacked}
		if i, another := index[at]; another {
			all[i] = added(all[i], st)
			continue
		}
		index[at] = len(all)
		all = append(all, st)
	}
	return all
}

func (st statement) face() interfaceFace {
	return interfaceFace{netnsInode: st.netnsInode, name: st.interfaceName}
}

func added(a, b statement) statement {
	sum := statement{interfaceName: a.interfaceName, netnsInode: a.netnsInode, stacked: a.stacked, start: min(a.start, b.start)}
	accounts := make(map[accountRow]quantity)
	unobserved := make(map[bpfDirection]tally)
	for _, st := range []statement{a, b} {
		for _, r := range st.accounts {
			key := accountRow{direction: r.direction, account: r.account}
			q := accounts[key]
			q.add(r.quantity)
			accounts[key] = q
		}
		for _, r := range st.unobserved {
			unobserved[r.direction] = unobserved[r.direction].plus(tally{packets: r.packets, bytes: r.bytes})
		}
	}
	for key, q := range accounts {
		key.quantity = q
		sum.accounts = append(sum.accounts, key)
	}
	slices.SortFunc(sum.accounts, func(a, b accountRow) int {
		return cmp.Or(cmp.Compare(a.direction, b.direction), cmp.Compare(a.account, b.account))
	})
	for _, direction := range slices.Sorted(maps.Keys(unobserved)) {
		t := unobserved[direction]
		sum.unobserved = append(sum.unobserved, unobservedRow{direction: direction, packets: t.packets, bytes: t.bytes})
	}
	return sum
}
