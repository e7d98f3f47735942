// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"

	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// TestProcessThatLooksTheSame requires that a process that executes its own program again continues its series, whatever happens
// to its former number.
func TestProcessThatLooksTheSame(t *testing.T) {
	l := opened(counter{})
	before := owner.Process{ID: process.ID{PID: 7, StartNanos: 5 * second, ExecID: 1}, Seen: process.Seen{FirstNanos: 12 * second}}
	after := owner.Process{ID: process.ID{PID: 7, StartNanos: 5 * second, ExecID: 2}, Seen: process.Seen{FirstNanos: 25 * second}, Alive: true}
	said := func(p owner.Process, start, bytesSent, bytesReceived uint64) []usage {
		return []usage{{process: p, start: start, rows: []row{
			{interfaceName: "eth0", netnsInode: hostInode, direction: bpfDirectionTRANSMIT, quantity: quantity{packets: bytesSent / 10, bytes: bytesSent}},
			{interfaceName: "eth0", netnsInode: hostInode, direction: bpfDirectionRECEIVE, quantity: quantity{packets: bytesReceived / 10, bytes: bytesReceived}},
		}}}
	}
	of := func(bytes uint64) bpfCount { return packets(bytes/10, bytes) }
	post := func(now uint64, change func(s *snapshot)) *report {
		s := at(now, counter{}, change)
		r := l.post(s, l.departing(s))
		l.endings.delivered()
		return r
	}

	post(20, func(s *snapshot) {
		s.processes[1] = before
		s.traffic[sent(1)], s.traffic[received(1)] = of(100), of(50)
	})
	r := post(30, func(s *snapshot) { // it has sent 30 more bytes, and has then executed its own program
		s.processes[1], s.processes[2] = before, after
		s.traffic[sent(1)], s.traffic[received(1)] = of(130), of(50)
		s.traffic[sent(2)] = of(10)
	})
	equal(t, "processes, by both numbers", said(after, 10*second, 140, 50), r.processes)
	r = post(40, func(s *snapshot) { // its former number is removed
		s.processes[1], s.processes[2] = before, after
		s.traffic[sent(1)], s.traffic[received(1)] = of(130), of(50)
		s.traffic[sent(2)] = of(20)
	})
	equal(t, "processes, when the first number departs", said(after, 10*second, 150, 50), r.processes)
	r = post(50, func(s *snapshot) { // and is seen again
		s.processes[2] = after
		s.traffic[sent(1)], s.traffic[sent(2)] = of(40), of(20)
	})
	equal(t, "processes, when the first number is heard again", said(after, 10*second, 190, 50), r.processes)
	equal(t, "gone", nil, r.gone)

	after.Alive = false
	ends := func(s *snapshot) {
		s.processes[2] = after
		s.traffic[sent(1)], s.traffic[sent(2)] = of(40), of(20)
	}
	r = post(60, ends)
	equal(t, "its last points", said(after, 10*second, 190, 50), r.processes)
	r = post(70, nil)
	equal(t, "processes, when it has ended", nil, r.processes)
	equal(t, "gone, when it has ended", said(after, 10*second, 190, 50), r.gone)
	equal(t, "what is still inherited", 0, len(l.rows))
}

// TestSeriesBeginsAfterTheLastEndedThatLooksTheSame has a process that has executed its own program, of which only the former number was known when
// that ended. Its series begin again after that end.
func TestSeriesBeginsAfterTheLastEndedThatLooksTheSame(t *testing.T) {
	l := opened(counter{})
	after := curl(true)
	after.ID.ExecID++
	after.Seen.FirstNanos = 25 * second
	l.next(dies(20))
	l.next(dies(30))
	l.endings.delivered()
	r := l.next(at(40, counter{}, func(s *snapshot) {
		s.processes[2] = after
		s.traffic[sent(2)] = packets(1, 40)
	}))
	equal(t, "its points", lastOf(after, 30*second, 1, 40), r.processes)
}
