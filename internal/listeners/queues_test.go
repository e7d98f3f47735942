// SPDX-License-Identifier: Apache-2.0

package listeners

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

// point has what a test compares of a data point.
type point struct {
	metric, address string
	pid, inode      int64
	value           int64
	ended           bool
}

func pointsOf(metrics pmetric.Metrics) (points []point) {
	for _, resource := range metrics.ResourceMetrics().All() {
		pid, _ := resource.Resource().Attributes().Get("process.pid")
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, p := range metric.Gauge().DataPoints().All() {
					address, _ := p.Attributes().Get("network.local.address")
					inode, _ := p.Attributes().Get("nettap.listener.socket.inode")
					points = append(points, point{metric.Name(), address.Str(), pid.Int(), inode.Int(), p.IntValue(), p.Flags().NoRecordedValue()})
				}
			}
		}
	}
	return points
}

func TestQueuesEndWhenThatIsDelivered(t *testing.T) {
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	held := map[process.ID]int{}
	hold := func(id process.ID, _ process.Seen) process.Process {
		held[id]++
		return process.Process{ID: id}
	}
	release := func(id process.ID) { held[id]-- }
	listener := func(inode uint64, waiting uint32) Listener {
		return Listener{Process: process.ID{PID: 7}, Local: netip.MustParseAddrPort("10.0.0.1:22"), Inode: inode, QueueLength: waiting, QueueLimit: 128}
	}
	first, second := key{1, 1}, key{2, 2}
	points := func(inode, waiting int64, ended bool) []point {
		limit := int64(128)
		if ended {
			limit = 0
		}
		return []point{
			{"nettap.listener.queue.length", "10.0.0.1", 7, inode, waiting, ended},
			{"nettap.listener.queue.limit", "10.0.0.1", 7, inode, limit, ended},
		}
	}
	both := func(a, b []point) []point { return []point{a[0], b[0], a[1], b[1]} } // by metric

	qs := queues{}
	expect := func(what string, there map[key]Listener, want []point) {
		t.Helper()
		qs.update(there, hold)
		if diff := cmp.Diff(want, pointsOf(emit(builder, time.Unix(9, 0), qs.sorted())), cmp.AllowUnexported(point{})); diff != "" {
			t.Errorf("%s: points differ (-want +got):\n%s", what, diff)
		}
	}
	expect("two that share a port", map[key]Listener{first: listener(1, 3), second: listener(2, 0)}, both(points(1, 3, false), points(2, 0, false)))
	qs.delivered(release)
	gone := map[key]Listener{second: listener(2, 5)}
	expect("one has gone", gone, both(points(1, 0, true), points(2, 5, false)))
	expect("nobody took that", gone, both(points(1, 0, true), points(2, 5, false)))
	qs.delivered(release)
	expect("somebody did", gone, points(2, 5, false))
	if held[process.ID{PID: 7}] != 1 {
		t.Errorf("the process is held %d times", held[process.ID{PID: 7}])
	}
}
