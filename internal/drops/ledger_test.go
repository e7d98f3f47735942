// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// book is a ledger with the snapshot for its next turn.
type book struct {
	*ledger
	next  *snapshot
	limit int
	each  int // of a namespace's keys
}

func newBook() *book {
	return &book{ledger: newLedger(started), limit: 100, each: 100, next: &snapshot{
		detailed:   map[bpfDropKey]uint64{},
		coarse:     map[bpfDropKey]uint64{},
		interfaces: map[interfaces.Key]interfaces.Entry{},
		victims:    map[uint64]*victim{},
		ended:      map[uint64]owner.Process{},
	}}
}

// at returns the time of the n-th turn.
func at(n int) time.Time { return started.Add(time.Duration(n) * time.Second) }

// named gives an interface a name.
func (b *book) named(index uint32, name string) {
	var entry interfaces.Entry
	for i, c := range []byte(name) {
		entry.Name[i] = int8(c)
	}
	entry.Epoch = 1
	b.next.interfaces[interfaces.Key{Netns: 1, Ifindex: index}] = entry
}

// collect makes one turn. late is how many packets each key that is removed has counted since it was read.
func (b *book) collect(late uint64) []drop {
	b.next.now = at(int(b.turn) + 1)
	b.enter(b.next, testWords())
	examples := b.examples(b.next)
	for _, key := range b.departing(b.next, b.limit, b.each) {
		b.remove(key, b.next.detailed[key]+late)
		delete(b.next.detailed, key)
	}
	return b.post(b.next, examples)
}

func victimWith(pid uint32) *victim {
	return &victim{Process: process.Process{ID: process.ID{PID: pid}}}
}

func requireDrops(t *testing.T, when string, got []drop, want ...drop) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(drop{}, series{}, loser{}, victim{}, exemplar{})); diff != "" {
		t.Errorf("%s: drops differ (-want +got):\n%s", when, diff)
	}
}

// on returns the series of a refused segment.
func on(name string) series {
	return series{"tcp_v4_rcv", "no_socket", loss, name, "tcp", "ipv4", false}
}

// refused returns the key of a refused segment, which has one of two places in the function.
func refused(location uint64, index uint32) bpfDropKey {
	return bpfDropKey{Location: location, Netns: 1, Ifindex: index, Reason: 3, Type: 0x0800, Transport: 6}
}

// goneSurvey found no interface at all.
var goneSurvey = interfaces.Survey{Epoch: 9, Whole: true}

func TestLedgerAddsUpWhatIsOneSeries(t *testing.T) {
	b := newBook()
	b.named(2, "eth0")
	b.named(3, "eth0") // in another namespace, say
	b.next.detailed[refused(0x100, 2)] = 2
	b.next.detailed[refused(0x180, 2)] = 3
	b.next.detailed[refused(0x100, 3)] = 4
	b.next.detailed[refused(0x100, 4)] = 0 // it is about to be the first
	b.next.coarse[bpfDropKey{Location: 0x100, Reason: 3}] = 5
	coarse := series{"tcp_v4_rcv", "no_socket", loss, "", "", "", false}
	requireDrops(t, "first", b.collect(0),
		drop{series: coarse, start: started, packets: 5},
		drop{series: on("eth0"), start: started, packets: 9})
	if got := b.aggregated(); got != 14 {
		t.Errorf("%d packets are in a series, want 14", got)
	}
}

func TestLedgerBeginsASeriesWhereThereWasNothing(t *testing.T) {
	b := newBook()
	b.named(2, "eth0")
	requireDrops(t, "first", b.collect(0))
	b.next.detailed[refused(0x100, 2)] = 7
	requireDrops(t, "second", b.collect(0), drop{series: on("eth0"), start: at(1), packets: 7})
}

func TestLedgerKeepsAnExemplarWithItsSeries(t *testing.T) {
	b := newBook()
	e := exemplar{tracecontext.Context{TraceID: [16]byte{1}, SpanID: [8]byte{2}, Source: tracecontext.Socket}, 7}
	b.named(2, "eth0")
	b.next.detailed[refused(0x100, 2)] = 1
	b.next.exemplars = map[bpfDropKey]exemplar{refused(0x100, 2): e}
	b.next.survey = goneSurvey // it is the last that is said of it
	requireDrops(t, "first", b.collect(0), drop{series: on("eth0"), start: started, packets: 1, exemplars: []exemplar{e}})
}

func TestLedgerEndsTheSeriesOfAnInterfaceThatIsGone(t *testing.T) {
	b := newBook()
	b.named(2, "eth0")
	b.next.detailed[refused(0x100, 2)] = 7
	b.collect(0)
	b.delivered()
	b.next.survey = goneSurvey
	if got := b.forgettable(b.next); got != nil {
		t.Errorf("%v may be forgotten, and is needed", got)
	}
	last := drop{series: on("eth0"), start: started, packets: 10}
	requireDrops(t, "its last", b.collect(3), last)
	requireDrops(t, "its last, which was refused", b.collect(0), last)
	b.delivered()
	end := drop{series: on("eth0"), start: started, ended: true}
	requireDrops(t, "its end", b.collect(0), end)
	requireDrops(t, "its end, which was refused", b.collect(0), end)
	b.delivered()
	requireDrops(t, "after its end", b.collect(0))
	if diff := cmp.Diff([]interfaces.Key{{Netns: 1, Ifindex: 2}}, b.forgettable(b.next)); diff != "" {
		t.Errorf("what may be forgotten differs (-want +got):\n%s", diff)
	}
	if got := b.aggregated(); got != 10 {
		t.Errorf("%d packets were in a series, want 10", got)
	}
}

func TestLedgerGoesOnWithASeriesThatAnotherInterfaceFeeds(t *testing.T) {
	b := newBook()
	b.named(2, "eth0")
	b.named(3, "eth0")
	b.next.detailed[refused(0x100, 2)] = 7
	b.next.detailed[refused(0x100, 3)] = 1
	b.collect(0)
	b.delivered()
	b.named(3, "eth1")
	requireDrops(t, "one is renamed", b.collect(2), drop{series: on("eth0"), start: started, packets: 10})
	b.delivered()
	b.next.detailed[refused(0x100, 3)] = 4
	b.next.detailed[refused(0x100, 2)] = 8
	requireDrops(t, "it has counted more", b.collect(0),
		drop{series: on("eth0"), start: started, packets: 11},
		drop{series: on("eth1"), start: at(2), packets: 4})
}

func TestLedgerBeginsARenamedInterfaceAnew(t *testing.T) {
	b := newBook()
	b.named(2, "eth0")
	b.next.detailed[refused(0x100, 2)] = 7
	b.collect(0)
	b.delivered()
	b.named(2, "lan0")
	requireDrops(t, "renamed", b.collect(1), drop{series: on("eth0"), start: started, packets: 8})
	b.delivered()
	b.next.detailed[refused(0x100, 2)] = 2
	requireDrops(t, "after it", b.collect(0),
		drop{series: on("eth0"), start: started, ended: true},
		drop{series: on("lan0"), start: at(2), packets: 2})
}

// TestLedgerTakesASeriesUpAgain requires that a series continues if its end was not delivered, and that one whose end was delivered
// begins again.
func TestLedgerTakesASeriesUpAgain(t *testing.T) {
	for name, test := range map[string]struct {
		deliveries int
		want       drop
	}{
		"when its last value was refused":     {0, drop{series: on("eth0"), start: started, packets: 9}},
		"when its last value was delivered":   {1, drop{series: on("eth0"), start: at(2), packets: 2}},
		"when its end was delivered long ago": {3, drop{series: on("eth0"), start: at(4), packets: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook()
			b.named(2, "eth0")
			b.next.detailed[refused(0x100, 2)] = 7
			b.collect(0)
			b.next.survey = goneSurvey
			b.collect(0)
			for i := range test.deliveries {
				if i > 0 {
					b.collect(0)
				}
				b.delivered()
			}
			b.next.survey = interfaces.Survey{}
			b.next.detailed[refused(0x100, 2)] = 2
			requireDrops(t, name, b.collect(0), test.want)
		})
	}
}

func TestLedgerMakesRoomOfTheSilent(t *testing.T) {
	b := newBook()
	b.limit = 2
	requireRoomOfTheSilent(t, b)
}

func TestLedgerMakesRoomOfTheSilentOfANamespace(t *testing.T) {
	b := newBook()
	b.each, b.next.survey.Host = 2, 9
	requireRoomOfTheSilent(t, b)
}

// TestLedgerMakesNoRoomWhereThereIsSome requires that the host's namespace can use all entries.
func TestLedgerMakesNoRoomWhereThereIsSome(t *testing.T) {
	b := newBook()
	b.each, b.next.survey.Host = 0, 1
	b.named(2, "a")
	b.next.detailed[refused(0x100, 2)] = 1
	b.collect(0)
	requireDrops(t, "it is silent", b.collect(5), drop{series: on("a"), start: started, packets: 1})
}

// requireRoomOfTheSilent has four keys, of which the limit allows two.
func requireRoomOfTheSilent(t *testing.T, b *book) {
	t.Helper()
	for index, name := range []string{2: "a", 3: "b", 4: "c", 5: "d"} {
		b.named(uint32(index), name)
	}
	b.next.detailed[refused(0x100, 2)] = 1
	b.collect(0)
	b.next.detailed[refused(0x100, 3)] = 1
	b.collect(0)
	b.next.detailed[refused(0x100, 2)] = 2 // so that b is the one that is silent longest
	b.collect(0)
	b.next.detailed[refused(0x100, 4)] = 1
	requireDrops(t, "there are too many", b.collect(5),
		drop{series: on("a"), start: started, packets: 2},
		drop{series: on("b"), start: at(1), packets: 6},
		drop{series: on("c"), start: at(3), packets: 1})
	b.delivered()
	b.next.detailed[refused(0x100, 2)]++
	b.next.detailed[refused(0x100, 4)]++
	b.next.detailed[refused(0x100, 5)]++
	requireDrops(t, "none of too many is silent", b.collect(0),
		drop{series: on("a"), start: started, packets: 3},
		drop{series: on("b"), start: at(1), ended: true},
		drop{series: on("c"), start: at(3), packets: 2},
		drop{series: on("d"), start: at(4), packets: 1})
}

// lostBy returns the key of a packet that a process has lost.
func lostBy(number uint64, key bpfDropKey) bpfDropKey {
	key.Number, key.Victim, key.Direction = number, bpfVictimVICTIM_SOCKET, bpfDirectionRECEIVE
	return key
}

// ofProcess returns a process's series of a refused segment.
func ofProcess(v *victim, name string) (series, loser) {
	return series{reason: "no_socket", class: loss, interfaceName: name}, loser{v, bpfVictimVICTIM_SOCKET, bpfDirectionRECEIVE}
}

func TestLedgerKeepsWhatAProcessLostInTwoSeries(t *testing.T) {
	b, one, other := newBook(), victimWith(7), victimWith(9)
	b.named(2, "eth0")
	b.next.victims[1], b.next.victims[2] = one, other
	b.next.detailed[refused(0x100, 2)] = 1
	b.next.detailed[lostBy(1, refused(0x100, 2))] = 2
	b.next.detailed[lostBy(1, refused(0x180, 2))] = 3
	b.next.detailed[lostBy(2, refused(0x100, 2))] = 4
	b.next.detailed[lostBy(3, refused(0x100, 2))] = 5 // it was forgotten
	ofOne, byOne := ofProcess(one, "eth0")
	ofOther, byOther := ofProcess(other, "eth0")
	requireDrops(t, "first", b.collect(0),
		drop{series: on("eth0"), start: started, packets: 15},
		drop{series: ofOne, loser: byOne, start: started, packets: 5},
		drop{series: ofOther, loser: byOther, start: started, packets: 4})
	if b.aggregated() != 15 || b.nameless() != 5 {
		t.Errorf("%d packets are in a series, and %d in none of their process, want 15 and 5", b.aggregated(), b.nameless())
	}
}

func TestLedgerEndsTheSeriesOfAProcessAlone(t *testing.T) {
	b, one := newBook(), victimWith(7)
	b.named(2, "eth0")
	b.next.victims[1] = one
	b.next.detailed[lostBy(1, refused(0x100, 2))] = 7
	b.next.ended[1] = owner.Process{}
	ofOne, byOne := ofProcess(one, "eth0")
	both := []drop{{series: on("eth0"), start: started, packets: 7}, {series: ofOne, loser: byOne, start: started, packets: 7}}
	requireDrops(t, "it has lost something lately", b.collect(0), both...)
	b.delivered()
	requireDrops(t, "its last", b.collect(0), both...)
	if b.numbers()[1] {
		t.Error("its number is in a key")
	}
	b.delivered()
	both[1].packets, both[1].ended = 0, true
	requireDrops(t, "its end", b.collect(0), both...)
	b.delivered()
	requireDrops(t, "after its end", b.collect(0), both[0])
	b.next.detailed[refused(0x100, 2)] = 1
	both[0].packets = 8
	requireDrops(t, "the host's goes on", b.collect(0), both[0])
}
