// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// metricOf adds a metric on the resource of a process, or of none.
func metricOf(metrics pmetric.Metrics, p *fed, name string) pmetric.Metric {
	resource := metrics.ResourceMetrics().AppendEmpty()
	if p != nil {
		describe(resource.Resource(), *p)
	}
	metric := resource.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	metric.SetName(name)
	return metric
}

// putQueue adds the accept queue of a listener.
func putQueue(metrics pmetric.Metrics, p *fed, address string, port, socket, length, limit int64) {
	for name, value := range map[string]int64{"nettap.listener.queue.length": length, "nettap.listener.queue.limit": limit} {
		point := metricOf(metrics, p, name).SetEmptyGauge().DataPoints().AppendEmpty()
		point.SetIntValue(value)
		point.Attributes().PutStr("network.local.address", address)
		point.Attributes().PutInt("network.local.port", port)
		point.Attributes().PutInt("nettap.listener.socket.inode", socket)
	}
}

// putDurations adds a distribution in ranges that end at 1 ms, 10 ms and never.
func putDurations(metrics pmetric.Metrics, p *fed, name string, seconds float64, counts []uint64, attributes map[string]any) {
	point := metricOf(metrics, p, name).SetEmptyHistogram().DataPoints().AppendEmpty()
	point.ExplicitBounds().FromRaw([]float64{0.001, 0.01})
	point.BucketCounts().FromRaw(counts)
	point.SetSum(seconds)
	for _, n := range counts {
		point.SetCount(point.Count() + n)
	}
	_ = point.Attributes().FromRaw(attributes)
}

// putPacket adds the record of a dropped packet.
func putPacket(logs plog.Logs, now time.Time, line, source string, port int64) {
	record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName("nettap.packet.dropped")
	record.SetTimestamp(pcommon.NewTimestampFromTime(now))
	record.Body().SetStr(line)
	record.Attributes().PutStr("source.address", source)
	record.Attributes().PutInt("destination.port", port)
}

// measure feeds measures of a process, whose attributes are a text.
func (f *feed) measure(p *fed, text string) {
	metrics := pmetric.NewMetrics()
	putCount(metrics, p, "nettap.process.tcp.connects", 1, map[string]string{"error.type": text})
	putDurations(metrics, p, "nettap.process.tcp.rtt", 0.05, []uint64{8, 2, 0}, map[string]any{"nettap.connection.role": text})
	f.Connections(metrics)
	metrics = pmetric.NewMetrics()
	putQueue(metrics, p, text, 80, 71, 3, 128)
	f.Queues(metrics)
}

// feedMeasures feeds what instruments that are off by default deliver. connects is how often java
// has connected.
func (f *feed) feedMeasures(connects int64) {
	java := &fed{pid: 3120, uid: 33, comm: "java", more: map[string]string{"container.id": "9b1d7e44c0aa52f1e6", "service.name": "shop"}}
	curl := &fed{pid: 12, comm: "curl"}
	metrics := pmetric.NewMetrics()
	putCount(metrics, java, "nettap.process.tcp.connects", connects, nil)
	putCount(metrics, java, "nettap.process.tcp.connects", 2, map[string]string{"error.type": "ECONNREFUSED"})
	putCount(metrics, java, "nettap.process.tcp.connects", 1, map[string]string{"error.type": "given_up"})
	putCount(metrics, java, "nettap.process.tcp.retransmits", 5, nil)
	putCount(metrics, curl, "nettap.process.tcp.connects", 1, nil)
	putDurations(metrics, java, "nettap.process.tcp.rtt", 0.05, []uint64{8, 2, 0}, map[string]any{"nettap.connection.role": "client"})
	f.Connections(metrics)
	metrics = pmetric.NewMetrics()
	putQueue(metrics, java, "0.0.0.0", 8080, 71, 3, 128)
	putQueue(metrics, java, "0.0.0.0", 8080, 72, 128, 128)
	f.Queues(metrics)
	metrics = pmetric.NewMetrics()
	putDurations(metrics, java, "nettap.socket.wait.duration", 2, []uint64{1, 1, 2}, map[string]any{"nettap.wait.part": "peer", "network.peer.port": 5432})
	putDurations(metrics, java, "nettap.socket.wait.duration", 0, []uint64{0, 0, 0}, map[string]any{"nettap.wait.part": "local", "network.peer.port": 5432})
	f.WaitDurations(metrics)
	logs := plog.NewLogs()
	putPacket(logs, f.now, "no_socket: udp 10.0.0.9:5000 to 10.0.0.5:9", "10.0.0.9", 9)
	f.Accepts(logs)
}

func TestMeasuresAreTables(t *testing.T) {
	for path, want := range map[string][]string{
		"/tcp": {
			"  PID   UID CONNECTS   FAILED  RETRANS ERRORS                   COMMAND        ",
			" 3120    33       40        3        5 ECONNREFUSED=2,given_up=1 java           ",
			"   12     0        1        0        0 -                        curl           ",
		},
		"/tcp?n=1&wide&filter=process:java": {
			"  PID   UID CONNECTS   FAILED  RETRANS ERRORS                   COMMAND         CONTAINER    SERVICE",
			" 3120    33       40        3        5 ECONNREFUSED=2,given_up=1 java            9b1d7e44c0aa shop",
		},
		"/queues": {
			"  PID   UID   PORT WAITING   LIMIT ADDRESS                  COMMAND        ",
			" 3120    33   8080     128     128 0.0.0.0                  java           ",
			" 3120    33   8080       3     128 0.0.0.0                  java           ",
		},
		"/queues?filter=port:80": {"  PID   UID   PORT WAITING   LIMIT ADDRESS                  COMMAND        "},
		"/durations": {
			"  PID   UID KIND       OF       PORT    COUNT    MEAN_MS   P99_MS COMMAND        ",
			" 3120    33 round_trip client      -       10      5.000       10 java           ",
			" 3120    33 wait       peer     5432        4    500.000        - java           ",
		},
		"/durations?filter=wait": {
			"  PID   UID KIND       OF       PORT    COUNT    MEAN_MS   P99_MS COMMAND        ",
			" 3120    33 wait       peer     5432        4    500.000        - java           ",
		},
		"/packets": {
			"TIME                     EVENT           WHAT",
			"2026-11-22T21:07:48.000Z dropped         no_socket: udp 10.0.0.9:5000 to 10.0.0.5:9",
		},
		"/packets?filter=peer:10.0.0.9": {
			"TIME                     EVENT           WHAT",
			"2026-11-22T21:07:48.000Z dropped         no_socket: udp 10.0.0.9:5000 to 10.0.0.5:9",
		},
		"/packets?filter=port:10": {"TIME                     EVENT           WHAT"},
		"/connections":            {"TIME                     EVENT           WHAT"},
		"/connections?wide":       {"TIME                     EVENT              PID CONTAINER    SERVICE         WHAT"},
	} {
		f := newFeed()
		f.feedMeasures(40)
		if diff := cmp.Diff(strings.Join(want, "\n")+"\n", f.during(t, path)); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", path, diff)
		}
	}
}

// A table that is followed is written again at each interval.
func TestMeasuresAreFollowed(t *testing.T) {
	f := newFeed()
	f.feedMeasures(40)
	got := f.during(t, "/tcp?follow&interval=1s&filter=process:java", func() { f.feedMeasures(42) }, func() { f.Close() })
	head := "  PID   UID CONNECTS   FAILED  RETRANS ERRORS                   COMMAND        \n"
	want := head + " 3120    33       40        3        5 ECONNREFUSED=2,given_up=1 java           \n\n" +
		head + " 3120    33       42        3        5 ECONNREFUSED=2,given_up=1 java           \n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the tables differ (-want +got):\n%s", diff)
	}
}

func TestStateHasMeasures(t *testing.T) {
	f := newFeed()
	f.feedMeasures(40)
	var state State
	if err := json.Unmarshal([]byte(f.during(t, "/api/v1/state?filter=process:java")), &state); err != nil {
		t.Fatal(err)
	}
	deeds := map[string]uint64{}
	for _, d := range state.Deeds {
		deeds[d.Symbol+" "+d.Reason] = d.Packets
	}
	if diff := cmp.Diff(map[string]uint64{"connect ": 40, "connect ECONNREFUSED": 2, "connect given_up": 1, "retransmit ": 5}, deeds); diff != "" {
		t.Errorf("the deeds differ (-want +got):\n%s", diff)
	}
	id, ten := state.Processes[0].ID, 10.0
	if diff := cmp.Diff([]Queue{
		{Process: id, Local: End{"0.0.0.0", 8080}, Socket: 71, Length: 3, Limit: 128}, {Process: id, Local: End{"0.0.0.0", 8080}, Socket: 72, Length: 128, Limit: 128},
	}, state.Queues); diff != "" {
		t.Errorf("the queues differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Duration{
		{Process: id, Kind: "round_trip", Part: "client", Count: 10, MeanMS: 5, MostMS: &ten},
		{Process: id, Kind: "wait", Part: "peer", Peer: End{Port: 5432}, Count: 4, MeanMS: 500},
	}, state.Durations); diff != "" {
		t.Errorf("the durations differ (-want +got):\n%s", diff)
	}
}

// An increment has all queues and durations if some were read, and none otherwise.
func TestIncrementsHaveMeasures(t *testing.T) {
	f := newFeed()
	f.feedMeasures(1)
	body := f.during(t, "/api/events?filter=-process:curl", func() { f.feedMeasures(5) }, func() {}, func() { f.Queues(pmetric.NewMetrics()) }, func() { f.Close() })
	type told struct{ Deeds, Done, Queues, Durations, Packets int }
	var all []told
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(line, "data: ")
		var i Increment
		if !ok || json.Unmarshal([]byte(data), &i) != nil || i.SpanS == 0 {
			continue
		}
		one := told{len(i.Deeds), len(i.Done), -1, -1, len(i.Packets)}
		if i.Queues != nil {
			one.Queues = len(*i.Queues)
		}
		if i.Durations != nil {
			one.Durations = len(*i.Durations)
		}
		all = append(all, one)
	}
	if diff := cmp.Diff([]told{{0, 1, 2, 2, 1}, {0, 0, -1, -1, 0}, {0, 0, 0, -1, 0}}, all[:min(3, len(all))]); diff != "" {
		t.Errorf("the increments differ (-want +got):\n%s\n%s", diff, body)
	}
}

// A process that only listens or connects is remembered for as long as it is measured.
func TestMeasuredProcessesAreKept(t *testing.T) {
	f := newFeed()
	for range 3 {
		f.feedMeasures(1)
		f.now = f.now.Add((keep - 1000) * time.Millisecond)
	}
	f.feedMeasures(1)
	if got := len(f.View.processes.byID); got != 2 {
		t.Errorf("%d processes are known, want 2", got)
	}
	if id := f.measures.queues.all[0].Process; id != "1" {
		t.Errorf("the listener's process has become %s", id)
	}
}

func TestOldDeedsAreForgotten(t *testing.T) {
	f := newFeed()
	f.feedMeasures(1)
	f.now = f.now.Add(2 * keep * time.Millisecond)
	for range missing + 2 {
		f.now = f.now.Add(coarseStep * time.Millisecond)
		f.Connections(pmetric.NewMetrics())
		f.Tick(0)
	}
	if got := len(f.deeds.byPlace); got != 0 {
		t.Errorf("%d deeds are kept", got)
	}
}

func TestMeasuresAreBounded(t *testing.T) {
	f := newFeed()
	metrics := pmetric.NewMetrics()
	for i := range int64(maxMeasures + 3) {
		putQueue(metrics, &fed{pid: 1, comm: "a"}, "::", i%60_000+1, i, 0, 1)
		putDurations(metrics, &fed{pid: 1, comm: "a"}, "nettap.socket.wait.duration", 1, []uint64{1, 0, 0}, map[string]any{"network.peer.port": i})
	}
	f.Queues(metrics)
	f.WaitDurations(metrics)
	for range maxNotices + 2 {
		logs := plog.NewLogs()
		putPacket(logs, f.now, "x", "10.0.0.9", 9)
		f.Accepts(logs)
	}
	want := map[string]int{"queues": 6, "durations": 3, "packets": 2} // a queue has two points
	if diff := cmp.Diff(want, f.dropped); diff != "" || len(f.measures.queues.all) != maxMeasures || len(f.packets) != maxNotices {
		t.Errorf("what is left out differs (-want +got):\n%s", diff)
	}
}
