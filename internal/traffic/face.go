package traffic

import "slices"

// face is what its resource shows of a process. One that executes its own program
// again looks the same: a series that it goes on with begins anew, without an end
// before.
type face struct {
	instance
	shown uint64 // a hash of its resource's attributes
}

// without returns the usages without rows of a series that others go on with.
func (e *endings) without(usages, others []usage) []usage {
	if len(usages) == 0 {
		return nil // as at most times
	}
	type series struct {
		face
		row
	}
	seriesOf := func(face face, r row) series {
		r.quantity = quantity{}
		return series{face: face, row: r}
	}
	goesOn := make(map[series]bool)
	for _, u := range others {
		face := e.faceOf(u.process)
		for _, r := range u.rows {
			goesOn[seriesOf(face, r)] = true
		}
	}
	var rest []usage
	for _, u := range usages {
		face := e.faceOf(u.process)
		u.rows = slices.DeleteFunc(slices.Clone(u.rows), func(r row) bool { return goesOn[seriesOf(face, r)] })
		if len(u.rows) != 0 {
			rest = append(rest, u)
		}
	}
	return rest
}

// withoutRows is the same for interfaces.
func withoutRows(statements, others []statement) []statement {
	if len(statements) == 0 {
		return nil
	}
	type series struct {
		interfaceFace
		stacked   bool
		direction bpfDirection
		account   string // "" is unobserved
	}
	seriesOf := func(st statement, direction bpfDirection, account string) series {
		return series{interfaceFace{netnsInode: st.netnsInode, name: st.interfaceName}, st.stacked, direction, account}
	}
	goesOn := make(map[series]bool)
	for _, st := range others {
		for _, a := range st.accounts {
			goesOn[seriesOf(st, a.direction, a.account)] = true
		}
		for _, u := range st.unobserved {
			goesOn[seriesOf(st, u.direction, "")] = true
		}
	}
	var rest []statement
	for _, st := range statements {
		st.accounts = slices.DeleteFunc(slices.Clone(st.accounts), func(a accountRow) bool {
			return goesOn[seriesOf(st, a.direction, a.account)]
		})
		st.unobserved = slices.DeleteFunc(slices.Clone(st.unobserved), func(u unobservedRow) bool {
			return goesOn[seriesOf(st, u.direction, "")]
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

// supersede closes the books of interfaces whose face another one has now: their
// series goes on with a new start.
func (l *ledger) supersede(s *snapshot) {
	newest := make(map[interfaceFace]bpfInterfaceKey)
	for _, key := range sortedInterfaces(l.interfaces) {
		if l.closed[key] {
			continue
		}
		face := l.interfaces[key].face()
		before, taken := newest[face]
		if !taken || l.interfaces[before].Epoch <= l.interfaces[key].Epoch {
			newest[face] = key
		}
		if _, known := l.born[key]; !known {
			l.born[key] = l.posted // it had nothing to say then
		}
	}
	for key, entry := range l.interfaces {
		if !l.closed[key] && newest[entry.face()] != key {
			l.close(key)
		}
	}
	l.posted = s.now
}
