// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"cmp"
	"maps"
	"slices"
)

// The series of an interface begin anew when what they show of it, or the unit of their values,
// changes: it was renamed, another interface has its name, or the guess of a unit was wrong. All
// series that show the old identity report their last points, with everything that has moved until
// then, and end with the next report. The new ones begin at that time, at zero.

// ends returns the identities whose series report their last points. These include interfaces
// whose identity another one has now. That other one waits for the next report, and so begins
// later, unless both are new.
func (l *ledger) ends(superseded map[bpfInterfaceKey]bpfInterfaceKey) (ends, last map[interfaceIdentity]bool, waits map[bpfInterfaceKey]bool) {
	ends, last, waits = make(map[interfaceIdentity]bool), make(map[interfaceIdentity]bool), make(map[bpfInterfaceKey]bool)
	for _, iface := range l.interfaces {
		if iface.renamed != nil {
			ends[iface.entry.identity()] = true
			ends[iface.renamed.identity()] = true
		}
		if iface.relearned != nil {
			ends[iface.entry.identity()] = true
		}
	}
	for _, key := range sortedInterfaces(superseded) {
		by := superseded[key]
		iface, next := l.interfaces[key], l.interfaces[by]
		identity := iface.entry.identity()
		last[identity] = true
		switch {
		case next.born <= iface.born:
			ends[identity] = true
		case next.entry.identity() == identity && !ends[identity]:
			waits[by] = true
		}
	}
	for identity := range ends {
		last[identity] = true
	}
	return ends, last, waits
}

// shownBy returns which of the identities that end the series of a process show, and what the
// series show afterwards.
func (l *ledger) shownBy(one *life, ends map[interfaceIdentity]bool) map[interfaceIdentity]bool {
	if len(ends) == 0 {
		return nil // the usual case
	}
	shown := make(map[interfaceIdentity]bool)
	for _, c := range one.entries {
		if iface, known := l.interfaces[c.iface()]; known && ends[iface.entry.identity()] {
			shown[l.shown(iface.entry)] = true
			shown[l.shown(iface.current())] = true
		}
	}
	return shown
}

// turnRows lets the series of a process that show these identities begin anew.
func (l *ledger) turnRows(one *life, shown map[interfaceIdentity]bool, now uint64) {
	if len(shown) == 0 {
		return
	}
	for _, c := range one.entries {
		if shown[l.shown(l.entryOf(c.iface()))] {
			row := l.rows[c.bpfTrafficKey]
			row.turned, row.before = true, row.of(c.bpfCount)
			l.rows[c.bpfTrafficKey] = row
		}
	}
	series := one.series
	if series.begun == nil {
		series.begun = make(map[interfaceIdentity]uint64)
	}
	for identity := range shown {
		// the series of a new process may have begun since the snapshot
		series.begun[identity] = max(now, series.start+1, series.begun[identity]+1)
	}
}

// entryOf returns what the series of an interface show, if it is known.
func (l *ledger) entryOf(key bpfInterfaceKey) bpfInterfaceEntry {
	if iface, known := l.interfaces[key]; known {
		return iface.entry
	}
	return bpfInterfaceEntry{}
}

// parted returns the rows of usages that show these identities, and the others.
func parted(usages []usage, shown map[interfaceIdentity]bool) (on, off []usage) {
	if len(shown) == 0 {
		return nil, usages
	}
	for _, u := range usages {
		rows := u.rows
		if !slices.ContainsFunc(rows, func(r row) bool { return shown[r.identity()] }) {
			off = append(off, u) // the usual case
			continue
		}
		u.rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !shown[r.identity()] })
		on = append(on, u)
		u.rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return shown[r.identity()] })
		if len(u.rows) != 0 {
			off = append(off, u)
		}
	}
	return on, off
}

func (r row) identity() interfaceIdentity {
	return interfaceIdentity{netnsInode: r.netnsInode, name: r.interfaceName}
}

// beginAnew begins the series of these identities at zero, now.
func (l *ledger) beginAnew(s *snapshot, ends map[interfaceIdentity]bool, superseded map[bpfInterfaceKey]bpfInterfaceKey) {
	for key, iface := range l.interfaces {
		if _, gone := superseded[key]; gone {
			l.end(key, s)
		} else if ends[iface.entry.identity()] && iface.phase == interfaceLive {
			iface.turn(s.now)
		}
		iface.show()
	}
}

// unite adds up the statements of each identity whose series report their last points, because
// readers see them as one. It also returns those separately.
func unite(statements []statement, ends map[interfaceIdentity]bool) (all, ending []statement) {
	for _, st := range statements {
		if ends[st.identity()] {
			ending = append(ending, st)
		} else {
			all = append(all, st)
		}
	}
	ending = united(ending)
	return append(all, ending...), ending
}

// united adds up the statements of each identity.
func united(statements []statement) []statement {
	type identity struct {
		interfaceIdentity
		stacked bool
	}
	index := make(map[identity]int)
	var all []statement
	for _, st := range statements {
		at := identity{st.identity(), st.stacked}
		if i, another := index[at]; another {
			all[i] = added(all[i], st)
			continue
		}
		index[at] = len(all)
		all = append(all, st)
	}
	return all
}

func (st statement) identity() interfaceIdentity {
	return interfaceIdentity{netnsInode: st.netnsInode, name: st.interfaceName}
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
