// SPDX-License-Identifier: Apache-2.0

// Package owner knows which process each socket belongs to. Each receiver loads it once,
// and instruments share its maps. Kernel side: bpf/owner.bpf.c.
package owner

import "github.com/seed-7756021b/nettap/internal/process"

// Process is a process that owns a socket or has owned one.
type Process struct {
	ID    process.ID
	Seen  process.Seen
	Alive bool // at the last Survey, with this executable and user
}

func processFrom(key bpfProcess, entry bpfProcessEntry, round uint64) Process {
	return Process{
		ID: process.ID{
			StartNanos: key.StartNs,
			PID:        key.Pid,
			ExecID:     key.ExecId,
			UserID:     key.Uid,
			RealUserID: key.RealUid,
		},
		Seen: process.Seen{
			FirstNanos: entry.Seen.FirstNs,
			CgroupID:   entry.Seen.CgroupId,
			Comm:       process.Text(entry.Seen.Comm[:]),
			Executable: process.Text(entry.Seen.Executable[:]),
		},
		Alive: isAlive(entry, round),
	}
}

// sign tells sets of processes apart that the kernel side has at different times, as long as none
// is deleted. The same sign means the same processes, of which the same are alive.
type sign struct {
	last   uint64 // number that was given
	living uint64 // the squares of the numbers of those that are alive, added up
}

// signOf returns the sign of some processes. last must have been read before them.
//
// Kernel side: note_living in bpf/owner.bpf.c.
func signOf(last uint64, processes map[uint64]Process) sign {
	s := sign{last: last}
	for number, p := range processes {
		if p.Alive {
			s.living += number * number
		}
	}
	return s
}

func isAlive(entry bpfProcessEntry, round uint64) bool { return entry.Round >= round }

func keyOf(id process.ID) bpfProcess {
	return bpfProcess{
		StartNs: id.StartNanos,
		Pid:     id.PID,
		ExecId:  id.ExecID,
		Uid:     id.UserID,
		RealUid: id.RealUserID,
	}
}
