package traffic

import "slices"

// face is what its resource shows of a process. One that executes its own program
// again looks the same: a series that it goes on with begins anew, without an end
// before.
type face struct {
	instance
	shown uint64 // a hash of its resource's attributes
}

// series is what tells a process's series from others.
type series struct {
	face
	row
}

// starts returns when each series of the usages began.
func (e *endings) starts(usages []usage) map[series]uint64 {
	starts := make(map[series]uint64)
	for _, u := range usages {
		face := e.faceOf(u.process)
		for _, r := range u.rows {
			r.quantity = quantity{}
			starts[series{face, r}] = u.start
		}
	}
	return starts
}

// without returns the usages without rows of a series that others go on with.
func (e *endings) without(usages, others []usage) []usage {
	if len(usages) == 0 {
		return nil // as at most times
	}
	goesOn := e.starts(others)
	var rest []usage
	for _, u := range usages {
		face := e.faceOf(u.process)
		u.rows = slices.DeleteFunc(slices.Clone(u.rows), func(r row) bool {
			r.quantity = quantity{}
			_, ok := goesOn[series{face, r}]
			return ok
		})
		if len(u.rows) != 0 {
			rest = append(rest, u)
		}
	}
	return rest
}

// resume returns the rows of the usages that others go on with, until when they did.
func (e *endings) resume(usages, others []usage) []usage {
	if len(usages) == 0 {
		return nil
	}
	goesOn := e.starts(others)
	var resumed []usage
	for _, u := range usages {
		face := e.faceOf(u.process)
		for _, r := range u.rows {
			key := series{face, r}
			key.quantity = quantity{}
			if start, ok := goesOn[key]; ok && start > u.start {
				resumed = append(resumed, usage{process: u.process, start: u.start, until: start, rows: []row{r}})
			}
		}
	}
	return resumed
}

// withoutRows is the same for interfaces.
func withoutRows(statements, others []statement) []statement {
	if len(statements) == 0 {
		return nil
	}
	type account struct {
		interfaceFace
		stacked   bool
		direction bpfDirection
		name      string // "" is unobserved
	}
	accountOf := func(st statement, direction bpfDirection, name string) account {
		return account{interfaceFace{netnsInode: st.netnsInode, name: st.interfaceName}, st.stacked, direction, name}
	}
	goesOn := make(map[account]bool)
	for _, st := range others {
		for _, a := range st.accounts {
			goesOn[accountOf(st, a.direction, a.account)] = true
		}
		for _, u := range st.unobserved {
			goesOn[accountOf(st, u.direction, "")] = true
		}
	}
	var rest []statement
	for _, st := range statements {
		st.accounts = slices.DeleteFunc(slices.Clone(st.accounts), func(a accountRow) bool {
			return goesOn[accountOf(st, a.direction, a.account)]
		})
		st.unobserved = slices.DeleteFunc(slices.Clone(st.unobserved), func(u unobservedRow) bool {
			return goesOn[accountOf(st, u.direction, "")]
		})
		if len(st.accounts)+len(st.unobserved) != 0 {
			rest = append(rest, st)
		}
	}
	return rest
}

// latest returns the highest number of each face, which is the one it has now.
func (l *ledger) latest(owned map[uint64][]bpfTrafficKey, s *snapshot) map[face]uint64 {
	numbers := make(map[face]uint64, len(owned))
	for number := range owned {
		if p, known := l.processOf(number, s); known {
			face := l.faceOf(p)
			numbers[face] = max(numbers[face], number)
		}
	}
	return numbers
}

// interfaceFace is what its attributes show of an interface. Inode numbers of
// namespaces are reused at once, and so are names.
type interfaceFace struct {
	netnsInode uint32
	name       string
}

func (e bpfInterfaceEntry) face() interfaceFace {
	return interfaceFace{netnsInode: e.NetnsInode, name: e.name()}
}

// shown is what a process's series show of an interface.
func (l *ledger) shown(e bpfInterfaceEntry) interfaceFace {
	face := e.face()
	if !l.withNamespace {
		face.netnsInode = 0
	}
	return face
}

// supersede returns the interfaces whose face another one has now, and which one.
func (l *ledger) supersede() map[bpfInterfaceKey]bpfInterfaceKey {
	newest := make(map[interfaceFace]bpfInterfaceKey)
	for _, key := range sortedInterfaces(l.interfaces) {
		if l.closed[key] {
			continue
		}
		face := l.current(key).face()
		before, taken := newest[face]
		if !taken || l.current(before).Epoch <= l.current(key).Epoch {
			newest[face] = key
		}
		if _, known := l.born[key]; !known {
			l.born[key] = l.posted // it had nothing to say then
		}
	}
	superseded := make(map[bpfInterfaceKey]bpfInterfaceKey)
	for key := range l.interfaces {
		if next := newest[l.current(key).face()]; !l.closed[key] && next != key {
			superseded[key] = next
		}
	}
	return superseded
}
