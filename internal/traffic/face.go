package traffic

import (
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
)

// face is what its resource shows of a process. One that executes its own program
// again looks the same: a series that it goes on with begins anew, without an end
// before.
type face struct {
	instance
	userID, realUserID uint32
	comm, executable   string
}

func faceOf(p owner.Process) face {
	return face{
		instance: instanceOf(p.ID), userID: p.ID.UserID, realUserID: p.ID.RealUserID,
		comm: p.Seen.Comm, executable: p.Seen.Executable,
	}
}

// without returns the usages without rows of a series that others go on with.
func without(usages, others []usage) []usage {
	type series struct {
		face
		row
	}
	seriesOf := func(u usage, r row) series {
		r.quantity = quantity{}
		return series{face: faceOf(u.process), row: r}
	}
	goesOn := make(map[series]bool)
	for _, u := range others {
		for _, r := range u.rows {
			goesOn[seriesOf(u, r)] = true
		}
	}
	var rest []usage
	for _, u := range usages {
		u.rows = slices.DeleteFunc(slices.Clone(u.rows), func(r row) bool { return goesOn[seriesOf(u, r)] })
		if len(u.rows) != 0 {
			rest = append(rest, u)
		}
	}
	return rest
}

// latest returns the highest number of each face, which is the one it has now.
func (l *ledger) latest(owned map[uint64][]bpfTrafficKey, s *snapshot) map[face]uint64 {
	numbers := make(map[face]uint64, len(owned))
	for number := range owned {
		if p, known := l.processOf(number, s); known {
			numbers[faceOf(p)] = max(numbers[faceOf(p)], number)
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
