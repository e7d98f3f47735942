// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

// histogramPoint has what these tests compare of a point.
type histogramPoint struct {
	PID       int64
	Part, End string // End is the name of the attribute that has the port
	Port      int64
	Sum       float64
	Count     uint64
	Buckets   [len(durationBounds) + 1]uint64
	Ended     bool
}

func histogramPoints(metrics pmetric.Metrics) (points []histogramPoint) {
	for _, resource := range metrics.ResourceMetrics().All() {
		pid, _ := resource.Resource().Attributes().Get("process.pid")
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, p := range metric.Histogram().DataPoints().All() {
					part, _ := p.Attributes().Get("nettap.wait.part")
					point := histogramPoint{PID: pid.Int(), Part: part.Str(), Sum: p.Sum(), Count: p.Count(), Ended: p.Flags().NoRecordedValue()}
					for _, end := range []string{"network.peer.port", "network.local.port"} {
						if port, ok := p.Attributes().Get(end); ok {
							point.End, point.Port = point.End+end, port.Int()
						}
					}
					copy(point.Buckets[:], p.BucketCounts().AsRaw())
					points = append(points, point)
				}
			}
		}
	}
	return points
}

// distributionOf returns a distribution of n waits in one bucket.
func distributionOf(bucket int, n uint64, each time.Duration) (d distribution) {
	d.counts[bucket], d.sum = n, time.Duration(n)*each
	return d
}

func (d *distribution) count() (sum uint64) {
	for _, n := range d.counts {
		sum += n
	}
	return sum
}

func TestDurations(t *testing.T) {
	config := metadata.NewDefaultMetricsBuilderConfig()
	config.Metrics.NettapSocketWaitDuration.Enabled = true
	builder := metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
	key := func(pid, exec uint32, port uint16, serves uint8) (k bpfDurationKey) {
		k.Process.Pid, k.Process.ExecId, k.Port, k.Serves = pid, exec, port, serves
		return k
	}
	point := func(part, end string, port int64, d distribution) histogramPoint {
		return histogramPoint{PID: 7, Part: part, End: end, Port: port, Sum: d.sum.Seconds(), Count: d.count(), Buckets: d.counts}
	}
	ended := func(part, end string, port int64) histogramPoint {
		return histogramPoint{PID: 7, Part: part, End: end, Port: port, Ended: true}
	}
	l := newDurationsLedger(time.Unix(100, 0))
	enter := func(k bpfDurationKey, d durations) {
		l.enter(k, d, func() (process.Process, string) {
			p := process.Process{ID: process.ID{PID: k.Process.Pid}}
			return p, shownOf(p.Resource(builder.NewResourceBuilder()))
		})
	}
	now := time.Unix(100, 0)
	expect := func(what string, want ...histogramPoint) {
		t.Helper()
		now = now.Add(10 * time.Second)
		if diff := cmp.Diff(want, histogramPoints(emitDurations(builder, now, l.post(now)))); diff != "" {
			t.Errorf("%s: points differ (-want +got):\n%s", what, diff)
		}
	}
	const asked, served = "network.peer.port", "network.local.port"
	one, two, three := distributionOf(11, 1, 300*time.Millisecond), distributionOf(11, 2, 300*time.Millisecond), distributionOf(11, 3, 300*time.Millisecond)
	late := distributionOf(16, 1, 11*time.Second)

	client, server, unixClient := key(7, 1, 5432, 0), key(7, 1, 80, 1), key(7, 1, 0, 0)
	enter(client, durations{one, late})
	enter(server, durations{{}, two})
	enter(unixClient, durations{one, one})
	unixPoints := []histogramPoint{point("peer", "", 0, one), point("local", "", 0, one)}
	expect("a program that asks, and serves",
		unixPoints[0], unixPoints[1], point("peer", asked, 5432, one), point("local", asked, 5432, late), point("local", served, 80, two))

	enter(key(7, 2, 5432, 0), durations{two, late}) // the same process, after an exec of the same program
	l.remove(client, durations{one, late})
	both := late
	both.add(late)
	expect("an exec that the resource does not show",
		unixPoints[0], unixPoints[1], point("peer", asked, 5432, three), point("local", asked, 5432, both), point("local", served, 80, two))

	l.remove(key(7, 2, 5432, 0), durations{two, late})
	l.remove(unixClient, durations{one, one})
	l.remove(server, durations{{}, three})
	last := []histogramPoint{
		unixPoints[0], unixPoints[1], point("peer", asked, 5432, three), point("local", asked, 5432, both), point("local", served, 80, three),
	}
	expect("a process that has ended", last...)
	expect("nobody has taken that", last...)
	l.delivered()
	expect("somebody has", ended("peer", "", 0), ended("local", "", 0), ended("peer", asked, 5432), ended("local", asked, 5432), ended("local", served, 80))
	enter(client, durations{one, one})
	l.delivered()
	expect("one that waits again", point("peer", asked, 5432, one), point("local", asked, 5432, one))
	if start := l.post(now)[0].start; !start.Equal(time.Unix(150, 0)) {
		t.Errorf("its series begin at %v", start)
	}
}
