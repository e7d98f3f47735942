// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

var started = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testBuilder(config metadata.MetricsBuilderConfig) *metadata.MetricsBuilder {
	return metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
}

func wallSinceStart(bootNanos uint64) time.Time { return started.Add(time.Duration(bootNanos)) }

func TestEmit(t *testing.T) {
	builder := testBuilder(metadata.NewDefaultMetricsBuilderConfig())
	host := builder.NewResourceBuilder()
	host.SetHostID("h1")

	reader := &victim{Process: process.Process{ID: process.ID{PID: 7, UserID: 33, RealUserID: 33}, HostID: "h1", Comm: "reader", Executable: "reader"}}
	metrics := emitter{builder: builder, host: host.Emit(), wall: wallSinceStart}.emit(started.Add(10*time.Second), []drop{
		{
			series: series{"", "nettap_listen_overflow", loss, "eth0", "tcp", "ipv6", false}, start: started, packets: 4,
			exemplars: []exemplar{{
				context: tracecontext.Context{TraceID: [16]byte{1, 2}, SpanID: [8]byte{3}, Source: tracecontext.Socket, Link: true},
				nanos:   uint64(time.Second),
			}},
		},
		{series: series{"ip_rcv_core.isra.0", "otherhost", benign, "eth0", "udp", "ipv4", false}, start: started.Add(time.Second), packets: 15},
		{series: series{"unix_stream_connect", "not_specified", unknown, "", "", "", false}, start: started, ended: true},
		{
			series: series{reason: "socket_rcvbuff", class: loss, interfaceName: "eth0"}, start: started, packets: 200,
			loser: loser{reader, bpfVictimVICTIM_SOCKET, bpfDirectionRECEIVE},
		},
		{
			series: series{reason: "neigh_failed", class: loss}, start: started, ended: true,
			loser: loser{reader, bpfVictimVICTIM_SOCKET, bpfDirectionTRANSMIT},
		},
		{
			series: series{reason: "no_socket", class: loss, interfaceName: "eth0"}, start: started, packets: 3,
			loser: loser{&victim{Process: process.Process{ID: process.ID{PID: 8}, Comm: "gone"}}, bpfVictimVICTIM_LAST_LISTENER, bpfDirectionRECEIVE},
		},
	})
	compact, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "drops.json", compact)
}

func TestEmitNothing(t *testing.T) {
	off := metadata.NewDefaultMetricsBuilderConfig()
	off.Metrics.NettapPacketDropped.Enabled, off.Metrics.NettapProcessPacketDropped.Enabled = false, false
	some := []drop{
		{series: series{"tcp_v4_rcv", "no_socket", loss, "eth0", "tcp", "ipv4", false}, packets: 1},
		{series: series{reason: "no_socket", class: loss}, loser: loser{victim: &victim{}}, packets: 1},
	}

	for name, test := range map[string]struct {
		config metadata.MetricsBuilderConfig
		drops  []drop
	}{
		"nothing was dropped":          {metadata.NewDefaultMetricsBuilderConfig(), nil},
		"the metrics are switched off": {off, some},
	} {
		t.Run(name, func(t *testing.T) {
			metrics := emitter{builder: testBuilder(test.config), host: pcommon.NewResource(), wall: wallSinceStart}.emit(started, test.drops)
			if n := metrics.ResourceMetrics().Len(); n != 0 {
				t.Errorf("emit() has %d resources, want none", n)
			}
		})
	}
}

func TestEmitExplanations(t *testing.T) {
	e := emitter{builder: testBuilder(metadata.NewDefaultMetricsBuilderConfig()), host: pcommon.NewResource(), wall: wallSinceStart, explain: true}
	metrics := e.emit(started, []drop{
		{series: series{"tcp_v4_rcv", "no_socket", loss, "eth0", "tcp", "ipv4", false}, start: started, packets: 1},
		{series: series{"new", "new_in_linux_9", unknown, "eth0", "tcp", "ipv4", false}, start: started, packets: 1},
	})
	compact, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "explanations.json", compact)
}

func TestEmitResets(t *testing.T) {
	config := metadata.NewDefaultMetricsBuilderConfig()
	config.Metrics.NettapTCPReset.Enabled = true
	config.Metrics.NettapPacketDropped.Enabled = false
	e := emitter{builder: testBuilder(config), host: pcommon.NewResource(), wall: wallSinceStart}
	server := &victim{Process: process.Process{ID: process.ID{PID: 7}, Comm: "server"}}
	metrics := e.emit(started.Add(10*time.Second), []drop{
		{series: series{reason: "no_socket", class: loss}, start: started, packets: 1},
		{series: series{reason: "no_socket", reset: true}, loser: loser{direction: bpfDirectionTRANSMIT}, start: started.Add(time.Second), packets: 2},
		{series: series{reason: "socket_rcvbuff", class: loss}, loser: loser{server, bpfVictimVICTIM_SOCKET, bpfDirectionRECEIVE}, start: started, packets: 3},
		{series: series{reset: true}, loser: loser{victim: server, direction: bpfDirectionRECEIVE}, start: started.Add(2 * time.Second), packets: 4},
	})
	compact, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "resets.json", compact)
}
