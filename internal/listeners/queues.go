// SPDX-License-Identifier: Apache-2.0

package listeners

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

// queue is what is reported of a listener. The description of its process is that of the time when
// the listener was first met.
type queue struct {
	Listener
	who   process.Process
	ended bool // the listener is gone, which is reported until a consumer has taken it
}

// queues are the listeners that have series.
type queues map[key]*queue

// update adds and ends queues according to the listeners that exist, and returns how many are new.
// describe describes a process.
func (qs queues) update(there map[key]Listener, describe func(process.ID, process.Seen) process.Process) (met int) {
	for of, q := range qs {
		if _, ok := there[of]; !ok {
			q.QueueLength, q.QueueLimit, q.ended = 0, 0, true
		}
	}
	for of, l := range there {
		if q, known := qs[of]; known {
			q.QueueLength, q.QueueLimit = l.QueueLength, l.QueueLimit
			continue
		}
		qs[of] = &queue{Listener: l, who: describe(l.Process, l.Seen)}
		met++
	}
	return met
}

// delivered removes the queues that have ended, and calls release with the process of each.
func (qs queues) delivered(release func(process.ID)) {
	maps.DeleteFunc(qs, func(_ key, q *queue) bool {
		if q.ended {
			release(q.Process)
		}
		return q.ended
	})
}

// sorted returns the queues so that those of one process are together.
func (qs queues) sorted() []*queue {
	return slices.SortedFunc(maps.Values(qs), func(a, b *queue) int {
		return cmp.Or(cmp.Compare(a.Process.PID, b.Process.PID), cmp.Compare(a.Process.StartNanos, b.Process.StartNanos),
			cmp.Compare(a.Process.ExecID, b.Process.ExecID), inOrder(a.Listener, b.Listener))
	})
}

// emit makes two points for each queue, on the resource of its process.
func emit(builder *metadata.MetricsBuilder, now time.Time, sorted []*queue) pmetric.Metrics {
	all := pmetric.NewMetrics()
	for _, group := range process.Group(sorted, func(q *queue) process.ID { return q.Process }) {
		for _, q := range group {
			q.record(builder, pcommon.NewTimestampFromTime(now))
		}
		metrics := builder.Emit(metadata.WithResource(group[0].who.Resource(builder.NewResourceBuilder())))
		endPoints(metrics, group)
		metrics.ResourceMetrics().MoveAndAppendTo(all.ResourceMetrics())
	}
	return all
}

func (q *queue) record(builder *metadata.MetricsBuilder, now pcommon.Timestamp) {
	address, port, netns, inode := q.Local.Addr().String(), int64(q.Local.Port()), int64(q.NetnsInode), int64(q.Inode)
	networkType := metadata.WithNetworkTypeMetricAttribute("ipv6")
	if q.Local.Addr().Is4() {
		networkType = metadata.WithNetworkTypeMetricAttribute("ipv4")
	}
	builder.RecordNettapListenerQueueLengthDataPoint(now, int64(q.QueueLength), address, port, netns, inode, networkType)
	builder.RecordNettapListenerQueueLimitDataPoint(now, int64(q.QueueLimit), address, port, netns, inode, networkType)
}

// endPoints sets what the generated builder cannot. The builder returns the points of a metric in
// the order in which they were recorded, or none.
func endPoints(metrics pmetric.Metrics, group []*queue) {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for i, point := range metric.Gauge().DataPoints().All() {
					point.SetFlags(point.Flags().WithNoRecordedValue(group[i].ended))
				}
			}
		}
	}
}
