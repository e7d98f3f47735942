// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

func TestEmit(t *testing.T) {
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	host := builder.NewResourceBuilder()
	host.SetHostID("h1")
	ends := bpfTally{Count: 3, SumUs: 1_200_150}
	ends.Ranges[0], ends.Ranges[1], ends.Ranges[14] = 1, 1, 1
	curl := &owner.Member{Process: process.Process{ID: process.ID{PID: 7, UserID: 33, RealUserID: 33}, HostID: "h1", Comm: "curl", Executable: "curl"}}
	only := &owner.Member{Process: process.Process{ID: process.ID{PID: 8}, HostID: "h1", Comm: "server", Executable: "server"}}
	later := started.Add(5 * time.Second)

	metrics := emitter{builder: builder, host: host.Emit()}.emit(started.Add(10*time.Second), []point{
		{series: series{deed: bpfDeedDEED_RETRANSMIT}, start: started, tally: bpfTally{Count: 2}},
		{series: series{member: curl, deed: bpfDeedDEED_RETRANSMIT}, start: started, tally: bpfTally{Count: 4}},
		{series: series{member: curl, deed: bpfDeedDEED_CONNECT}, start: later, tally: bpfTally{Count: 9}},
		{series: series{member: curl, deed: bpfDeedDEED_CONNECT, error: "ECONNREFUSED"}, start: started, ended: true},
		{series: series{member: curl, deed: bpfDeedDEED_END, role: "client"}, start: later, tally: ends},
		{series: series{member: only, deed: bpfDeedDEED_END}, start: started, ended: true},
	})
	encoded, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "connections.json", encoded)
}

// TestEmitLeavesOut requires that metrics that are off are left out.
func TestEmitLeavesOut(t *testing.T) {
	config := metadata.NewDefaultMetricsBuilderConfig()
	config.Metrics.NettapProcessTCPRetransmits.Enabled, config.Metrics.NettapProcessTCPRtt.Enabled = false, false
	builder := metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
	metrics := emitter{builder: builder, host: pcommon.NewResource()}.emit(started, []point{
		{series: series{deed: bpfDeedDEED_RETRANSMIT}, start: started, tally: bpfTally{Count: 2}},
		{series: series{deed: bpfDeedDEED_END, role: "client"}, start: started, tally: bpfTally{Count: 1}},
	})
	if n := metrics.DataPointCount(); n != 0 {
		t.Errorf("%d points are emitted, want none", n)
	}
}
