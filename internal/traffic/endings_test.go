// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// dies returns a snapshot of the machine when curl has sent 200 bytes and has ended.
func dies(seconds uint64) *snapshot {
	return at(seconds, counter{}, func(s *snapshot) {
		s.processes[1] = curl(false)
		s.traffic[sent(1)] = packets(2, 200)
	})
}

// next posts a snapshot.
func (l *ledger) next(s *snapshot) *report { return l.post(s, l.departing(s)) }

func lastOf(p owner.Process, start, packets, bytes uint64) []usage {
	return []usage{{process: p, start: start, rows: []row{
		{interfaceName: "eth0", netnsInode: hostInode, direction: bpfDirectionTRANSMIT, quantity: quantity{packets: packets, bytes: bytes}},
	}}}
}

func TestWhatNobodyTookOfAProcessIsSaidAgain(t *testing.T) {
	last := lastOf(curl(false), 10*second, 2, 200)
	l := opened(counter{})
	l.next(dies(20)) // it moved something since the start
	r := l.next(dies(30))
	equal(t, "its last points", last, r.processes)
	for seconds := uint64(40); seconds < 60; seconds += 10 {
		r = l.next(at(seconds, counter{}, nil))
		equal(t, "its last points, which nobody took", last, r.processes)
		equal(t, "gone, before its last was taken", nil, r.gone)
	}
	l.endings.delivered()
	for seconds := uint64(60); seconds < 80; seconds += 10 {
		r = l.next(at(seconds, counter{}, nil))
		equal(t, "its points after the last", nil, r.processes)
		equal(t, "gone, until somebody takes it", last, r.gone)
	}
	l.endings.delivered()
	r = l.next(at(80, counter{}, nil))
	equal(t, "its points after the end", nil, r.processes)
	equal(t, "gone, after somebody took it", nil, r.gone)
}

// TestSeriesThatBeginsAgainDoesNotEnd has a process that has ended, one of whose sockets still sends.
func TestSeriesThatBeginsAgainDoesNotEnd(t *testing.T) {
	heard := func(seconds uint64) *snapshot {
		return at(seconds, counter{}, func(s *snapshot) { s.traffic[sent(1)] = packets(1, 40) })
	}
	l := opened(counter{})
	l.next(dies(20))
	l.next(dies(30))
	l.endings.delivered()
	equal(t, "gone", lastOf(curl(false), 10*second, 2, 200), l.next(at(40, counter{}, nil)).gone)

	r := l.next(heard(50)) // before a consumer has taken its end
	equal(t, "its points", lastOf(curl(false), 30*second, 1, 40), r.processes)
	equal(t, "gone", nil, r.gone)
	l.endings.delivered()
	r = l.next(heard(60))
	equal(t, "its last points", lastOf(curl(false), 30*second, 1, 40), r.processes)
	l.endings.delivered()
	equal(t, "gone again", lastOf(curl(false), 30*second, 1, 40), l.next(at(70, counter{}, nil)).gone)
}

func TestEndOfAnInterfaceIsSaidUntilSomebodyTakesIt(t *testing.T) {
	present := func(seconds, bytes uint64) *snapshot {
		return at(seconds, counter{}, func(s *snapshot) {
			s.accounts[arrived(bpfAccountACCOUNT_ARRIVED)] = packets(1, bytes)
			s.accounts[arrived(bpfAccountACCOUNT_KERNEL)] = packets(1, bytes)
			delete(s.counters, host)
		})
	}
	removed := func(seconds uint64) *snapshot {
		s := present(seconds, 100)
		delete(s.interfaces, eth0)
		return s
	}
	ended := []statement{{interfaceName: "eth0", netnsInode: hostInode, start: 10 * second, accounts: []accountRow{
		{direction: bpfDirectionRECEIVE, account: "kernel", quantity: quantity{packets: 1, bytes: 100}},
	}}}
	l := opened(counter{})
	l.next(present(20, 100))
	equal(t, "departed", ended, l.next(removed(30)).departed)
	l.next(at(40, counter{}, func(s *snapshot) { delete(s.interfaces, eth0) }))
	r := l.next(at(50, counter{}, func(s *snapshot) { delete(s.interfaces, eth0) }))
	equal(t, "departed, until somebody takes it", ended, r.departed)
	equal(t, "present", nil, r.interfaces)

	r = l.next(present(60, 300)) // it is there again
	equal(t, "departed, when the series has begun again", nil, r.departed)
	equal(t, "present, of so many", 1, len(r.interfaces))
	l.endings.delivered()
	equal(t, "departed, after all", nil, l.next(present(70, 300)).departed)
}

func TestWhatNobodyTookOfAnInterfaceIsSaidAgain(t *testing.T) {
	e := &endings{identityOf: seenIdentity}
	last := []statement{{interfaceName: "br0", accounts: []accountRow{{account: "kernel", quantity: quantity{packets: 1, bytes: 60}}}}}
	next := func(refused bool, departed []statement) *report {
		e.refused = refused
		r := &report{departed: departed}
		e.enter(r, nil, nil, false)
		return r
	}

	for i, r := range []*report{next(true, last), next(true, nil)} {
		equal(t, fmt.Sprint("its last points, for time ", i), last, r.interfaces)
		equal(t, fmt.Sprint("departed, before they were taken, for time ", i), nil, r.departed)
	}
	e.delivered()
	for i, r := range []*report{next(false, nil), next(true, nil)} {
		equal(t, fmt.Sprint("its points, when the last was taken, for time ", i), nil, r.interfaces)
		equal(t, fmt.Sprint("departed, for time ", i), last, r.departed)
	}
	e.delivered()
	r := next(false, nil)
	equal(t, "departed, after somebody took it", nil, r.departed)

	e.refused = true
	r = &report{departed: last}
	e.enter(r, nil, nil, true)
	equal(t, "its last points in the final report", last, r.interfaces)
	equal(t, "departed in the final report", last, r.departed)
}

// TestFinalReportEndsWhatIsGone requires that the final report has the last values of all processes that have ended, and their
// ends.
func TestFinalReportEndsWhatIsGone(t *testing.T) {
	wget := owner.Process{ID: process.ID{PID: 8, StartNanos: 6 * second}, Alive: true}
	l := opened(counter{})
	l.final = true
	r := l.next(at(20, counter{}, func(s *snapshot) {
		s.processes[1], s.processes[2] = curl(false), wget
		s.traffic[sent(1)], s.traffic[sent(2)] = packets(2, 200), packets(3, 300)
	}))

	gone, stays := lastOf(curl(false), 10*second, 2, 200), lastOf(wget, 10*second, 3, 300)
	equal(t, "processes", append(gone, stays...), r.processes)
	equal(t, "gone", gone, r.gone)

	boot := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	e := emitter{
		builder: builder,
		speak:   membersOf(builder, func(id process.ID, _ process.Seen) process.Process { return process.Process{ID: id} }),
	}
	times := map[time.Time]int{}
	for _, resource := range e.emit(boot, r).ResourceMetrics().All() {
		if pid, _ := resource.Resource().Attributes().Get("process.pid"); pid.Int() != 7 {
			continue
		}
		for _, metric := range resource.ScopeMetrics().At(0).Metrics().All() {
			times[metric.Sum().DataPoints().At(0).Timestamp().AsTime()]++
		}
	}
	equal(t, "points of the dead process, by time", map[time.Time]int{boot: 2, boot.Add(time.Millisecond): 2}, times)
}

// TestEndingsAreBounded requires that memory is limited if no consumer takes anything, and that what is given up for that is
// counted.
func TestEndingsAreBounded(t *testing.T) {
	e := &endings{identityOf: seenIdentity}
	if err := e.takeComplaint(); err != nil {
		t.Errorf("nothing has happened, and the complaint is %v", err)
	}
	many := func(first int) (usages []usage, statements []statement) {
		for i := range maxEndings {
			usages = append(usages, lastOf(owner.Process{ID: process.ID{PID: uint32(first + i)}}, 0, 1, 1)...)
			statements = append(statements, statement{interfaceName: "veth", netnsInode: uint32(first + i), accounts: []accountRow{{account: "kernel"}}})
		}
		return usages, statements
	}
	usages, statements := many(1)
	e.enter(&report{departed: statements}, nil, usages, false)
	equal(t, "given up when there is room", 0, e.unended)
	e.delivered()
	usages, statements = many(1 + maxEndings)
	e.enter(&report{departed: statements}, nil, usages, false)
	equal(t, "given up of those whose last was taken", maxEndings, e.unended)
	usages, statements = many(1 + 2*maxEndings)
	e.enter(&report{departed: statements[:1]}, nil, usages[:1], false)
	equal(t, "given up when there is no room", maxEndings+2, e.unended)
	equal(t, "processes that are to end", maxEndings, len(e.leaving)+len(e.gone))
	equal(t, "interfaces that are to end", maxEndings, len(e.departed))
	equal(t, "the oldest process", uint32(maxEndings+2), e.leaving[0].process.ID.PID)
	if err := e.takeComplaint(); err == nil {
		t.Error("nobody complains")
	}
	if err := e.takeComplaint(); err != nil {
		t.Errorf("nothing more has happened, and the complaint is %v", err)
	}
}

// TestLedgerForgetsTheDead requires that processes that have ended are remembered because of their sockets, but only a limited
// number of them.
func TestLedgerForgetsTheDead(t *testing.T) {
	l := opened(counter{})
	const each = 4096 // as many processes as there may be at a time
	for collection := range uint64(6) {
		s := at(20+collection, counter{}, func(s *snapshot) {
			for i := range uint64(each) {
				number := collection*each + i + 1
				s.processes[number] = owner.Process{ID: process.ID{PID: uint32(number), StartNanos: number}}
				s.traffic[sent(number)] = packets(1, 10)
			}
		})
		l.next(s)
		l.endings.delivered()
		l.next(s)
		l.endings.delivered()
	}
	l.next(at(30, counter{}, nil))
	l.endings.delivered()
	r := l.next(at(40, counter{}, nil))

	equal(t, "gone", nil, r.gone)
	equal(t, "numbers", maxDeparted, len(l.numbers))
	for number, n := range l.numbers {
		if n.posted || n.departure == nil {
			t.Errorf("number %d has departed, and is %+v", number, n)
		}
	}
	equal(t, "instances", maxDeparted, len(l.firsts))
	equal(t, "processes that look different", maxDeparted, len(l.series))
	for _, series := range l.series {
		if series.start != 0 {
			t.Errorf("series of a process that has departed have the start %d", series.start)
		}
	}
	if _, ok := l.numbers[6*each]; !ok {
		t.Error("who has departed last is forgotten first")
	}
}

// TestLastThatNobodyTookIsSaidBeforeTheSeriesBeginsAnew requires that a series that begins again before a consumer has taken its last value has both in one
// report.
func TestLastThatNobodyTookIsSaidBeforeTheSeriesBeginsAnew(t *testing.T) {
	l := opened(counter{})
	l.next(dies(20))
	l.next(dies(30))
	heard := at(40, counter{}, func(s *snapshot) { s.traffic[sent(1)] = packets(1, 40) })
	r := l.next(heard)
	last := lastOf(curl(false), 10*second, 2, 200)
	last[0].until = 30 * second
	equal(t, "the last before", last, r.resumed)
	equal(t, "its points", lastOf(curl(false), 30*second, 1, 40), r.processes)

	boot := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	e := emitter{
		builder: builder,
		speak:   membersOf(builder, func(id process.ID, _ process.Seen) process.Process { return process.Process{ID: id} }),
		start:   boot,
	}
	var got [][3]any
	for _, resource := range e.emit(boot.Add(40*second), r).ResourceMetrics().All() {
		metric := resource.ScopeMetrics().At(0).Metrics().At(0)
		if p := metric.Sum().DataPoints().At(0); metric.Name() == "process.network.io" || metric.Name() == "nettap.process.network.packet.count" {
			got = append(got, [3]any{p.StartTimestamp().AsTime().Sub(boot).Seconds(), p.Timestamp().AsTime().Sub(boot).Seconds(), p.IntValue()})
		}
	}
	equal(t, "start, time and value", [][3]any{{10., 30., int64(2)}, {30., 40., int64(1)}}, got)

	l.endings.delivered()
	equal(t, "the last before, when somebody has taken it", nil, l.next(heard).resumed)
}
