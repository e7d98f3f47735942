// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/histogram"
	"github.com/seed-7756021b/nettap/internal/life"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

// durationBounds are the upper bounds of the buckets. There is one more bucket for what takes longer
// than the last one.
var durationBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// distribution is a histogram of durations.
type distribution struct {
	sum    time.Duration
	counts [len(durationBounds) + 1]uint64
}

func (d *distribution) add(other distribution) {
	d.sum += other.sum
	for i, n := range other.counts {
		d.counts[i] += n
	}
}

// durations has the distributions of the waits of a process and a port, by [bpfWaitPart].
type durations [bpfWaitPartWAIT_PARTS]distribution

func (d *durations) add(other durations) {
	for part := range d {
		d[part].add(other[part])
	}
}

// waiter identifies series: a process, by what its resource shows, and a port. If a process executes
// a program and its resource stays the same, it is the same waiter.
type waiter struct {
	shown  string // the attributes of the resource, as in shownOf
	port   uint16
	serves bool
}

func (w waiter) compare(other waiter) int {
	serves := func(w waiter) int {
		if w.serves {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(w.shown, other.shown), cmp.Compare(serves(w), serves(other)), cmp.Compare(w.port, other.port))
}

// line is the state of the series of a waiter.
type line struct {
	life.Life
	resource process.Process
	removed  durations // the sum of entries that are no longer in the kernel's map
}

// entry is the state of a key of the kernel's map.
type entry struct {
	of  waiter
	now durations
}

// durationsLedger keeps the series from one collection to the next. It needs no kernel: what was read
// and the time are arguments.
type durationsLedger struct {
	posted  time.Time // the time of the last collection
	entries map[bpfDurationKey]*entry
	lines   map[waiter]*line
}

func newDurationsLedger(start time.Time) *durationsLedger {
	return &durationsLedger{posted: start, entries: map[bpfDurationKey]*entry{}, lines: map[waiter]*line{}}
}

// enter records the value that was read of a key. It calls describe for a key that is new, which
// returns the process and its attributes as text.
func (l *durationsLedger) enter(key bpfDurationKey, now durations, describe func() (p process.Process, shown string)) {
	e, known := l.entries[key]
	if !known {
		p, shown := describe()
		e = &entry{of: waiter{shown, key.Port, key.Serves != 0}}
		l.entries[key] = e
		l.feed(e.of, p)
	}
	e.now = now
}

// feed records that one more entry belongs to the series of a waiter. Series whose last value was
// delivered begin anew.
func (l *durationsLedger) feed(of waiter, p process.Process) {
	to, known := l.lines[of]
	if !known || !to.Continues() {
		to = &line{resource: p, Life: life.Life{Start: l.posted}}
		l.lines[of] = to
	}
	to.Feed()
}

// remove records that a key was deleted from the kernel's map, and its last value.
func (l *durationsLedger) remove(key bpfDurationKey, last durations) {
	e := l.entries[key]
	delete(l.entries, key)
	of := l.lines[e.of]
	of.removed.add(last)
	of.Leave()
}

// posting is what one collection reports of a waiter.
type posting struct {
	waiter
	resource process.Process
	start    time.Time
	ended    bool
	durations
}

// post ends the collection at now, and returns what it reports. The waiters of one resource follow
// each other.
func (l *durationsLedger) post(now time.Time) []posting {
	sums := map[waiter]*durations{}
	for of, line := range l.lines {
		sum := line.removed
		sums[of] = &sum
	}
	for _, e := range l.entries {
		sums[e.of].add(e.now)
	}
	all := make([]posting, 0, len(l.lines))
	for _, of := range slices.SortedFunc(maps.Keys(l.lines), waiter.compare) {
		line := l.lines[of]
		all = append(all, posting{of, line.resource, line.Start, line.Ended(), *sums[of]})
	}
	l.posted = now
	return all
}

// delivered records that a consumer has taken what was last posted.
func (l *durationsLedger) delivered() { life.Deliver(l.lines) }

// inOurDurations converts a value of the kernel's map.
func inOurDurations(raw *bpfDurations) (d durations) {
	for part, of := range raw.Part {
		d[part] = distribution{duration(of.SumNs), of.Counts}
	}
	return d
}

// shownOf returns the attributes of a resource as text, sorted by their keys.
func shownOf(resource pcommon.Resource) string {
	return fmt.Sprintf("%#v", resource.Attributes().AsRaw())
}

var partAttributes = [bpfWaitPartWAIT_PARTS]metadata.AttributeNettapWaitPart{
	bpfWaitPartWAIT_PART_PEER:  metadata.AttributeNettapWaitPartPeer,
	bpfWaitPartWAIT_PART_LOCAL: metadata.AttributeNettapWaitPartLocal,
}

// durationPoint is one point.
type durationPoint struct {
	*posting
	part bpfWaitPart
}

// emitDurations makes a point of each waiter's local waits and, if it is a client, another one of
// its waits for the peer.
func emitDurations(builder *metadata.MetricsBuilder, now time.Time, all []posting) pmetric.Metrics {
	metrics := pmetric.NewMetrics()
	for len(all) > 0 {
		end := 1
		for end < len(all) && all[end].shown == all[0].shown {
			end++
		}
		emitWaiters(builder, pcommon.NewTimestampFromTime(now), all[:end]).ResourceMetrics().MoveAndAppendTo(metrics.ResourceMetrics())
		all = all[end:]
	}
	return metrics
}

// emitWaiters makes the points of the waiters of one resource.
func emitWaiters(builder *metadata.MetricsBuilder, now pcommon.Timestamp, all []posting) pmetric.Metrics {
	var points []durationPoint
	for i := range all {
		for part := range bpfWaitPartWAIT_PARTS {
			if part == bpfWaitPartWAIT_PART_PEER && all[i].serves {
				continue
			}
			points = append(points, durationPoint{&all[i], part})
			builder.RecordNettapSocketWaitDurationDataPoint(now, 0, partAttributes[part], int64(all[i].port), int64(all[i].port))
		}
	}
	metrics := builder.Emit(metadata.WithResource(all[0].resource.Resource(builder.NewResourceBuilder())))
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for i, point := range metric.Histogram().DataPoints().All() {
					points[i].complete(point)
				}
			}
		}
	}
	return metrics
}

// complete sets what the generated builder cannot set. The builder has the points in the order in
// which they were recorded.
func (d durationPoint) complete(point pmetric.HistogramDataPoint) {
	point.SetStartTimestamp(pcommon.NewTimestampFromTime(d.start))
	if d.serves || d.port == 0 {
		point.Attributes().Remove("network.peer.port")
	}
	if !d.serves || d.port == 0 {
		point.Attributes().Remove("network.local.port")
	}
	if d.ended {
		histogram.End(point)
		return
	}
	of := &d.durations[d.part]
	histogram.Fill(point, of.sum, durationBounds[:], of.counts[:])
}
