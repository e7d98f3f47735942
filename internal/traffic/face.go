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
