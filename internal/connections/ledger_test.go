// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

var started = time.Unix(1000, 0)

func memberWith(pid uint32) *owner.Member {
	return &owner.Member{Process: process.Process{ID: process.ID{PID: pid}}}
}

// book is a ledger with the snapshot that a test builds for it.
type book struct {
	*ledger
	next *snapshot
}

func newBook() *book {
	return &book{newLedger(started), &snapshot{
		now: started, tallies: map[bpfTallyKey]bpfTally{}, members: map[uint64]*owner.Member{}, processes: map[uint64]owner.Process{},
	}}
}

// meet gives a process a number.
func (b *book) meet(number uint64, m *owner.Member) {
	b.next.members[number], b.next.processes[number] = m, owner.Process{ID: m.Process.ID, Alive: true}
}

// end lets the process with a number end.
func (b *book) end(number uint64) {
	p := b.next.processes[number]
	p.Alive = false
	b.next.processes[number] = p
}

func (b *book) count(key bpfTallyKey, n uint64) {
	t := b.next.tallies[key]
	t.Count += n
	b.next.tallies[key] = t
}

// collect does what Collect does, ten seconds after the last collection. late is the number of events
// that are counted in each tally while it is removed.
func (b *book) collect(late uint64) []point {
	b.next.now = b.next.now.Add(10 * time.Second)
	b.enter(b.next)
	for _, key := range b.departing(b.next) {
		last := b.next.tallies[key]
		last.Count += late
		b.remove(key, last)
		delete(b.next.tallies, key)
	}
	return b.post(b.next.now)
}

func requirePoints(t *testing.T, when string, got []point, want ...point) {
	t.Helper()
	if len(got)+len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(point{}, series{}, owner.Member{})); diff != "" {
		t.Errorf("%s: points differ (-want +got):\n%s", when, diff)
	}
}

func TestLedgerEndsWhatEnded(t *testing.T) {
	b, one := newBook(), memberWith(7)
	refused := bpfTallyKey{Number: 1, Deed: bpfDeedDEED_CONNECT, Failure: 111}
	b.meet(1, one)
	b.count(refused, 2)
	said := point{series: series{member: one, deed: bpfDeedDEED_CONNECT, error: "ECONNREFUSED"}, start: started, tally: bpfTally{Count: 2}}
	requirePoints(t, "two connects", b.collect(0), said)
	b.delivered()

	b.end(1)
	b.count(refused, 1)
	said.tally.Count = 3
	requirePoints(t, "one at the end", b.collect(0), said)
	b.delivered()
	said.tally.Count = 4
	requirePoints(t, "one while it is taken out", b.collect(1), said)
	requirePoints(t, "nobody took that", b.collect(0), said)
	b.delivered()
	said.tally, said.ended = bpfTally{}, true
	requirePoints(t, "that was taken", b.collect(0), said)
	requirePoints(t, "nobody took its end", b.collect(0), said)

	b.count(refused, 5)
	again := point{series: said.series, start: b.posted, tally: bpfTally{Count: 5}}
	requirePoints(t, "it had not ended yet", b.collect(0), again)
	b.delivered()
	requirePoints(t, "its last value", b.collect(0), again)
	b.delivered()
	again.tally, again.ended = bpfTally{}, true
	requirePoints(t, "its end", b.collect(0), again)
	b.delivered()
	requirePoints(t, "nothing", b.collect(0))
	if got := b.aggregated(); got != 9 {
		t.Errorf("%d events are aggregated, want 9", got)
	}
}

// TestLedgerRemovesAProcessAtOnce has a process whose tallies do not all rest. It has some of them in one
// place, which is freed as a whole.
func TestLedgerRemovesAProcessAtOnce(t *testing.T) {
	b := newBook()
	b.meet(1, memberWith(7))
	connects, retransmits := bpfTallyKey{Number: 1, Deed: bpfDeedDEED_CONNECT}, bpfTallyKey{Number: 1, Deed: bpfDeedDEED_RETRANSMIT}
	b.count(connects, 2)
	b.count(retransmits, 1)
	b.collect(0)
	b.end(1)
	b.count(retransmits, 1)
	b.enter(b.next)
	if departing := b.departing(b.next); len(departing) != 0 {
		t.Errorf("%v depart while one tally changes, want none", departing)
	}
	b.enter(b.next)
	if departing := b.departing(b.next); len(departing) != 2 {
		t.Errorf("%v depart, want both tallies", departing)
	}
}

// TestSnapshotAddsUpBothMaps has a process that has counted the same in its place and, before it had one,
// elsewhere.
func TestSnapshotAddsUpBothMaps(t *testing.T) {
	s := &snapshot{tallies: map[bpfTallyKey]bpfTally{}}
	connects, server := bpfTallyKey{Number: 1, Deed: bpfDeedDEED_CONNECT}, bpfTallyKey{Number: 1, Deed: bpfDeedDEED_END, Role: bpfRoleROLE_SERVER}
	s.add(connects, bpfTally{Count: 2})
	usual := bpfUsual{Connects: 3, AsServer: bpfTally{Count: 1, SumUs: 70}}
	usual.AsServer.Ranges[1] = 1
	for key, tally := range usual.tallies(1) {
		s.add(key, tally)
	}
	want := map[bpfTallyKey]bpfTally{
		connects: {Count: 5}, server: usual.AsServer,
		{Number: 1, Deed: bpfDeedDEED_END, Role: bpfRoleROLE_CLIENT}: {},
	}
	if diff := cmp.Diff(want, s.tallies); diff != "" {
		t.Errorf("tallies differ (-want +got):\n%s", diff)
	}
}

// TestLedgerAddsUpWhatIsShownAlike has a process with several numbers, which belong to one series, and
// a number that is not known, whose connections belong to no process.
func TestLedgerAddsUpWhatIsShownAlike(t *testing.T) {
	b, one := newBook(), memberWith(7)
	b.meet(1, one)
	b.meet(2, one)
	for number := range uint64(4) { // 0 is no process, and 3 is not known
		key := bpfTallyKey{Number: number, Deed: bpfDeedDEED_RETRANSMIT}
		b.count(key, number+1)
	}
	nobodys := point{series: series{deed: bpfDeedDEED_RETRANSMIT}, start: started, tally: bpfTally{Count: 5}}
	said := point{series: series{member: one, deed: bpfDeedDEED_RETRANSMIT}, start: started, tally: bpfTally{Count: 5}}
	requirePoints(t, "four numbers", b.collect(0), nobodys, said)
	b.end(1)
	requirePoints(t, "one number has ended", b.collect(0), nobodys, said)
	b.delivered()
	requirePoints(t, "and is taken out", b.collect(0), nobodys, said)
	if diff := cmp.Diff(map[uint64]bool{0: true, 2: true}, b.numbers()); diff != "" {
		t.Errorf("numbers differ (-want +got):\n%s", diff)
	}
}

// TestLedgerCountsAnEndWhenItIsInARange reads a tally while the BPF program is adding to it, which it
// does in three steps.
func TestLedgerCountsAnEndWhenItIsInARange(t *testing.T) {
	b := newBook()
	key := bpfTallyKey{Deed: bpfDeedDEED_END, Role: bpfRoleROLE_SERVER}
	b.next.tallies[key] = bpfTally{Count: 1, SumUs: 70}
	requirePoints(t, "in no range", b.collect(0))
	tally := bpfTally{Count: 2, SumUs: 70}
	tally.Ranges[1] = 1
	b.next.tallies[key] = tally
	tally.Count = 1
	requirePoints(t, "in a range", b.collect(0), point{series: series{deed: bpfDeedDEED_END, role: "server"}, start: started.Add(10 * time.Second), tally: tally})
}
