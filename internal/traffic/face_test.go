package traffic

import (
	"testing"

	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// A process that executes its own program again goes on with the series it uses
// again; the others end.
func TestProcessThatLooksTheSame(t *testing.T) {
	l := opened(counter{})
	before := owner.Process{ID: process.ID{PID: 7, StartNanos: 5 * second, ExecID: 1}}
	after := owner.Process{ID: process.ID{PID: 7, StartNanos: 5 * second, ExecID: 2}, Seen: process.Seen{FirstNanos: 25 * second}, Alive: true}
	received := bpfTrafficKey{Number: 1, Netns: host, Ifindex: 2, Direction: uint8(bpfDirectionRECEIVE)}
	post := func(now uint64, change func(s *snapshot)) *report {
		s := at(now, counter{}, change)
		r := l.post(s, l.departing(s))
		l.endings.delivered()
		return r
	}
	transmit := func(p owner.Process, start, bytes uint64) usage {
		return usage{process: p, start: start, rows: []row{{
			interfaceName: "eth0", netnsInode: hostInode, direction: bpfDirectionTRANSMIT,
			quantity: quantity{packets: 1, bytes: bytes},
		}}}
	}
	receive := usage{process: before, start: 10 * second, rows: []row{{
		interfaceName: "eth0", netnsInode: hostInode, direction: bpfDirectionRECEIVE,
		quantity: quantity{packets: 1, bytes: 50},
	}}}

	post(20, func(s *snapshot) {
		s.processes[1] = before
		s.traffic[sent(1)], s.traffic[received] = packets(1, 100), packets(1, 50)
	})
	got := post(30, func(s *snapshot) {
		s.processes[1], s.processes[2] = before, after
		s.traffic[sent(1)], s.traffic[received] = packets(1, 100), packets(1, 50)
		s.traffic[sent(2)] = packets(1, 10)
	})
	equal(t, "processes", []usage{receive, transmit(after, 25*second, 10)}, got.processes)

	got = post(40, func(s *snapshot) {
		s.processes[2] = after
		s.traffic[sent(2)] = packets(1, 10)
	})
	equal(t, "processes", []usage{transmit(after, 25*second, 10)}, got.processes)
	equal(t, "gone", []usage{receive}, got.gone)
}
