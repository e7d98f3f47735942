// SPDX-License-Identifier: Apache-2.0

package traffic

import "slices"

// identity is what the resource of a process shows, by which readers tell it from others. A
// process that executes its own program again has the same identity, though the kernel side gives
// it another number.
type identity struct {
	instance
	shown uint64 // a hash of its resource's attributes
}

// series is what tells a process's series from others.
type series struct {
	identity
	row
}

// starts returns when each series of the usages began, of the processes that some others are about.
// These are few, while the usages may be those of all processes.
func (e *endings) starts(usages, others []usage) map[series]uint64 {
	wanted := make(map[instance]bool, len(others))
	for _, u := range others {
		wanted[instanceOf(u.process.ID)] = true
	}
	starts := make(map[series]uint64)
	for _, u := range usages {
		if !wanted[instanceOf(u.process.ID)] {
			continue
		}
		identity := e.identityOf(u.process)
		for _, r := range u.rows {
			starts[series{identity, r.series()}] = u.start
		}
	}
	return starts
}

// without returns the usages without the rows of series that others continue.
func (e *endings) without(usages, others []usage) []usage {
	if len(usages) == 0 {
		return nil // the usual case
	}
	goesOn := e.starts(others, usages)
	var rest []usage
	for _, u := range usages {
		identity := e.identityOf(u.process)
		u.rows = slices.DeleteFunc(slices.Clone(u.rows), func(r row) bool {
			_, ok := goesOn[series{identity, r.series()}]
			return ok
		})
		if len(u.rows) != 0 {
			rest = append(rest, u)
		}
	}
	return rest
}

// resume returns the rows of the usages that others continue, up to the time when they did.
func (e *endings) resume(usages, others []usage) []usage {
	if len(usages) == 0 {
		return nil
	}
	goesOn := e.starts(others, usages)
	var resumed []usage
	for _, u := range usages {
		identity := e.identityOf(u.process)
		for _, r := range u.rows {
			if start, ok := goesOn[series{identity, r.series()}]; ok && start > u.start {
				resumed = append(resumed, usage{process: u.process, start: u.start, until: start, rows: []row{r}})
			}
		}
	}
	return resumed
}

// account identifies a series of an interface.
type account struct {
	interfaceIdentity
	stacked   bool
	direction bpfDirection
	name      string // "" means unobserved
}

func (st statement) account(direction bpfDirection, name string) account {
	return account{interfaceIdentity: st.identity(), stacked: st.stacked, direction: direction, name: name}
}

// accountStarts returns when each series of the statements began.
func accountStarts(statements []statement) map[account]uint64 {
	starts := make(map[account]uint64)
	for _, st := range statements {
		for _, a := range st.accounts {
			starts[st.account(a.direction, a.account)] = st.start
		}
		for _, u := range st.unobserved {
			starts[st.account(u.direction, "")] = st.start
		}
	}
	return starts
}

// withoutRows returns the statements without the rows of series that others continue.
func withoutRows(statements, others []statement) []statement {
	if len(statements) == 0 {
		return nil
	}
	goesOn := accountStarts(others)
	return withRows(statements, func(_ statement, a account) bool {
		_, ok := goesOn[a]
		return !ok
	})
}

// resumeRows returns the rows of the statements that others continue, up to the time when they
// did.
func resumeRows(statements, others []statement) []statement {
	var resumed []statement
	goesOn := accountStarts(others)
	for _, st := range statements {
		rest := withRows([]statement{st}, func(st statement, a account) bool { return goesOn[a] > st.start })
		for _, st := range rest {
			st.until = goesOn[st.anyAccount()] // one statement continues another as a whole
			resumed = append(resumed, st)
		}
	}
	return resumed
}

// anyAccount returns one of the accounts of a statement.
func (st statement) anyAccount() account {
	if len(st.accounts) != 0 {
		return st.account(st.accounts[0].direction, st.accounts[0].account)
	}
	return st.account(st.unobserved[0].direction, "")
}

// withRows returns the statements with only the wanted rows.
func withRows(statements []statement, wanted func(statement, account) bool) []statement {
	var rest []statement
	for _, st := range statements {
		st.accounts = slices.DeleteFunc(slices.Clone(st.accounts), func(a accountRow) bool {
			return !wanted(st, st.account(a.direction, a.account))
		})
		st.unobserved = slices.DeleteFunc(slices.Clone(st.unobserved), func(u unobservedRow) bool {
			return !wanted(st, st.account(u.direction, ""))
		})
		if len(st.accounts)+len(st.unobserved) != 0 {
			rest = append(rest, st)
		}
	}
	return rest
}

// interfaceIdentity is what the attributes of an interface show. Inode numbers of namespaces, and
// names, are used again at once.
type interfaceIdentity struct {
	netnsInode uint32
	name       string
}

func (e bpfInterfaceEntry) identity() interfaceIdentity {
	return interfaceIdentity{netnsInode: e.NetnsInode, name: e.shownName()}
}

// shown returns what the series of a process show of an interface.
func (l *ledger) shown(e bpfInterfaceEntry) interfaceIdentity {
	identity := e.identity()
	if !l.withNamespace {
		identity.netnsInode = 0
	}
	return identity
}

// superseded returns the interfaces whose identity another one has now, and which one.
func (l *ledger) superseded() map[bpfInterfaceKey]bpfInterfaceKey {
	newest := make(map[interfaceIdentity]bpfInterfaceKey)
	for _, key := range sortedInterfaces(l.interfaces) {
		iface := l.interfaces[key]
		if iface.phase != interfaceLive {
			continue
		}
		identity := iface.current().identity()
		before, taken := newest[identity]
		if !taken || l.interfaces[before].current().Epoch <= iface.current().Epoch {
			newest[identity] = key
		}
	}
	superseded := make(map[bpfInterfaceKey]bpfInterfaceKey)
	for key, iface := range l.interfaces {
		if iface.phase != interfaceLive {
			continue
		}
		if next := newest[iface.current().identity()]; next != key {
			superseded[key] = next
		}
	}
	return superseded
}
