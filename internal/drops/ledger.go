package drops

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/seed-7756021b/nettap/internal/interfaces"
)

// snapshot is all that was read at one collection.
type snapshot struct {
	now        time.Time // before the rest was read
	detailed   map[bpfDropKey]uint64
	coarse     map[bpfDropKey]uint64 // those that found the place for detailed ones taken
	interfaces map[interfaces.Key]interfaces.Entry
	survey     interfaces.Survey
	exemplars  map[bpfDropKey]exemplar
}

// ledger keeps the series from one collection to the next. It is pure: all it knows
// comes in snapshots, and what is taken out of the kernel's map is told to it.
//
// A series adds up the entries of several keys: of two interfaces of one name, of two
// places in one function. It begins when the first of them does, and ends with the
// last: with its last value until a consumer has taken that, then without a value
// until a consumer has taken that, too.
type ledger struct {
	posted   time.Time // of the last snapshot
	turn     uint64    // how many snapshots there were
	entries  map[source]*entry
	counters map[series]*counter
	removed  uint64 // packets of the entries that were taken out
}

// source is a key in one of the kernel's maps.
type source struct {
	bpfDropKey
	coarse bool
}

// entry is what is known of a source. It belongs to one series as long as it is there.
type entry struct {
	series
	packets uint64
	moved   uint64 // the turn in which it last counted something
	renamed bool   // its interface has another name now
}

// counter is a series.
type counter struct {
	start   time.Time
	removed uint64 // packets of its entries that were taken out
	entries int
	phase   phase
}

// phase is where a series is in its life.
type phase int

const (
	alive   phase = iota
	leaving       // nothing feeds it any more; its last value is to be delivered
	ending        // that has been; its end is to be delivered
)

func newLedger(start time.Time) *ledger {
	return &ledger{posted: start, entries: map[source]*entry{}, counters: map[series]*counter{}}
}

// copy returns a ledger that knows what l knows, and shares with it nothing that either
// changes.
func (l *ledger) copy() *ledger {
	c := *l
	c.entries = make(map[source]*entry, len(l.entries))
	for from, e := range l.entries {
		other := *e
		c.entries[from] = &other
	}
	c.counters = make(map[series]*counter, len(l.counters))
	for s, of := range l.counters {
		other := *of
		c.counters[s] = &other
	}
	return &c
}

// enter takes in a snapshot.
func (l *ledger) enter(s *snapshot, w words) {
	l.turn++
	for key, packets := range s.detailed {
		l.count(source{key, false}, packets, s, w)
	}
	for key, packets := range s.coarse {
		l.count(source{key, true}, packets, s, w)
	}
}

func (l *ledger) count(from source, packets uint64, s *snapshot, w words) {
	if packets == 0 {
		return // it is about to be the first
	}
	name, named := s.nameOn(from.bpfDropKey)
	e, known := l.entries[from]
	if !known {
		e = &entry{series: w.series(from.bpfDropKey, name)}
		l.entries[from] = e
		l.feed(e.series)
	} else if named {
		e.renamed = w.series(from.bpfDropKey, name) != e.series
	}
	if packets != e.packets {
		e.packets, e.moved = packets, l.turn
	}
}

// nameOn returns the name that the interface of a key has now, if it is known.
func (s *snapshot) nameOn(key bpfDropKey) (name string, ok bool) {
	iface, known := key.iface()
	if !known {
		return "", true
	}
	found, ok := s.interfaces[iface]
	return nameOf(found), ok
}

// feed notes that one more entry feeds a series. One that has ended, or whose last
// value has been delivered, begins anew: at the last snapshot there was nothing of it.
func (l *ledger) feed(s series) {
	c, known := l.counters[s]
	if !known || c.phase == ending {
		c = &counter{start: l.posted}
		l.counters[s] = c
	}
	c.phase = alive
	c.entries++
}

// departing returns the keys to be taken out of the kernel's map: of interfaces that
// are gone or have another name; and when there are more than limit, of the others
// that have counted nothing lately those that have been silent longest.
func (l *ledger) departing(s *snapshot, limit int) []bpfDropKey {
	var leave, silent []bpfDropKey
	for from, e := range l.entries {
		switch {
		case from.coarse:
		case e.renamed || s.isGone(from.bpfDropKey):
			leave = append(leave, from.bpfDropKey)
		case e.moved < l.turn:
			silent = append(silent, from.bpfDropKey)
		}
	}
	excess := min(max(0, len(s.detailed)-len(leave)-limit), len(silent))
	slices.SortFunc(silent, func(a, b bpfDropKey) int {
		return cmp.Or(cmp.Compare(l.entries[source{a, false}].moved, l.entries[source{b, false}].moved), a.compare(b))
	})
	return append(leave, silent[:excess]...)
}

func (s *snapshot) isGone(key bpfDropKey) bool {
	iface, known := key.iface()
	found, ok := s.interfaces[iface]
	return known && ok && s.survey.Gone(iface, found)
}

// remove notes that a key was taken out of the kernel's map, with this many packets.
func (l *ledger) remove(key bpfDropKey, packets uint64) {
	from := source{key, false}
	c := l.counters[l.entries[from].series]
	delete(l.entries, from)
	l.removed += packets
	c.removed += packets
	if c.entries--; c.entries == 0 {
		c.phase = leaving
	}
}

// forgettable returns the interfaces that are gone and of which no key is left.
func (l *ledger) forgettable(s *snapshot) []interfaces.Key {
	used := map[interfaces.Key]bool{}
	for from := range l.entries {
		if iface, known := from.iface(); known {
			used[iface] = true
		}
	}
	var gone []interfaces.Key
	for key, found := range s.interfaces {
		if !used[key] && s.survey.Gone(key, found) {
			gone = append(gone, key)
		}
	}
	return gone
}

// aggregated is how many packets are or were in a series.
func (l *ledger) aggregated() uint64 {
	sum := l.removed
	for _, e := range l.entries {
		sum += e.packets
	}
	return sum
}

// post ends the turn and returns what there is to say, sorted so that the same drops
// always come out in the same order.
func (l *ledger) post(s *snapshot, exemplars map[series][]exemplar) []drop {
	sums := map[series]uint64{}
	for _, e := range l.entries {
		sums[e.series] += e.packets
	}
	drops := make([]drop, 0, len(l.counters))
	for _, s := range slices.SortedFunc(maps.Keys(l.counters), series.compare) {
		d := drop{series: s, start: l.counters[s].start}
		if l.counters[s].phase == ending {
			d.ended = true
		} else {
			d.packets, d.exemplars = l.counters[s].removed+sums[s], exemplars[s]
		}
		drops = append(drops, d)
	}
	l.posted = s.now
	return drops
}

// examples sorts exemplars by the series of their keys, which must not have been removed yet.
func (l *ledger) examples(s *snapshot) map[series][]exemplar {
	sorted := map[series][]exemplar{}
	for key, e := range s.exemplars {
		if of, known := l.entries[source{key, false}]; known {
			sorted[of.series] = append(sorted[of.series], e)
		}
	}
	return sorted
}

// delivered notes that what was last posted has been taken.
func (l *ledger) delivered() {
	for s, c := range l.counters {
		switch c.phase {
		case leaving:
			c.phase = ending
		case ending:
			delete(l.counters, s)
		}
	}
}

func (k bpfDropKey) compare(other bpfDropKey) int {
	return cmp.Or(
		cmp.Compare(k.Netns, other.Netns), cmp.Compare(k.Ifindex, other.Ifindex),
		cmp.Compare(k.Location, other.Location), cmp.Compare(k.Reason, other.Reason),
		cmp.Compare(k.Type, other.Type), cmp.Compare(k.Transport, other.Transport), cmp.Compare(k.Empty, other.Empty),
	)
}
