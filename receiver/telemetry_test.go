// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/metadatatest"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// fakeSource has only statistics.
type fakeSource struct {
	name   string
	totals stats.Totals
}

func (c *fakeSource) namedStats() namedStats { return namedStats{c.name, c.totals} }

func TestPublish(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	defer telemetry.Shutdown(t.Context())
	traffic := &fakeSource{"traffic", stats.Totals{
		Counts:  stats.Counts{Seen: 10, Aggregated: 6, Lost: map[string]uint64{"map_full": 4}},
		Scraped: 12, Errored: 2, Copies: 3, MissedRuns: 4, WithoutProcess: 7, Unmeasured: 8,
		Maps: map[string]stats.Map{"processes": {Entries: 5, Limit: 4096, Refused: 9}},
		Hooks: []kernel.Hook{
			{Job: "transmit", Name: "tp_btf/net_dev_start_xmit"},
			{Job: "arrival", Name: "tp_btf/netif_receive_skb", Unproven: "lo is down"},
			{Job: "exec", Name: "tp_btf/sched_process_exec", Unproven: "no program was run", Awaited: true},
		},
	}}
	accepts := &fakeSource{"accepts", stats.Totals{Counts: stats.Counts{Seen: 9, Exported: 6, SampledOut: 1, RateLimited: map[string]uint64{"slow": 5}, Lost: map[string]uint64{"ring_full": 2}}}}
	builder, err := registerTelemetry(telemetry.NewTelemetrySettings(), component.NewIDWithName(metadata.Type, "a"), []statsSource{traffic, accepts}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}

	point := func(value int64, instrument string, more ...attribute.KeyValue) metricdata.DataPoint[int64] {
		common := []attribute.KeyValue{attribute.String("receiver", "nettap/a"), attribute.String("instrument", instrument)}
		return metricdata.DataPoint[int64]{Value: value, Attributes: attribute.NewSet(append(more, common...)...)}
	}
	type want = []metricdata.DataPoint[int64]
	ignore := metricdatatest.IgnoreTimestamp()
	metadatatest.AssertEqualNettapEventsSeen(t, telemetry, want{point(10, "traffic"), point(9, "accepts")}, ignore)
	metadatatest.AssertEqualNettapEventsExported(t, telemetry, want{point(0, "traffic"), point(6, "accepts")}, ignore)
	metadatatest.AssertEqualNettapEventsAggregated(t, telemetry, want{point(6, "traffic"), point(0, "accepts")}, ignore)
	metadatatest.AssertEqualNettapEventsSampledOut(t, telemetry, want{point(0, "traffic"), point(1, "accepts")}, ignore)
	metadatatest.AssertEqualNettapEventsRateLimited(t, telemetry, want{point(5, "accepts", attribute.String("reason", "slow"))}, ignore)
	metadatatest.AssertEqualNettapEventsLost(t, telemetry, want{
		point(4, "traffic", attribute.String("cause", "map_full")),
		point(2, "accepts", attribute.String("cause", "ring_full")),
	}, ignore)
	metadatatest.AssertEqualNettapHookActive(t, telemetry, want{
		point(1, "traffic", attribute.String("job", "transmit"), attribute.String("hook", "tp_btf/net_dev_start_xmit"), attribute.Bool("awaited", false)),
		point(0, "traffic", attribute.String("job", "arrival"), attribute.String("hook", "tp_btf/netif_receive_skb"), attribute.Bool("awaited", false)),
		point(0, "traffic", attribute.String("job", "exec"), attribute.String("hook", "tp_btf/sched_process_exec"), attribute.Bool("awaited", true)),
	}, ignore)
	metadatatest.AssertEqualNettapMapEntries(t, telemetry, want{point(5, "traffic", attribute.String("map", "processes"))}, ignore)
	metadatatest.AssertEqualNettapMapLimit(t, telemetry, want{point(4096, "traffic", attribute.String("map", "processes"))}, ignore)
	metadatatest.AssertEqualNettapMapRefused(t, telemetry, want{point(9, "traffic", attribute.String("map", "processes"))}, ignore)
	metadatatest.AssertEqualNettapHookMissedRuns(t, telemetry, want{point(4, "traffic")}, ignore)
	metadatatest.AssertEqualNettapDropsWithoutProcess(t, telemetry, want{point(7, "traffic")}, ignore)
	metadatatest.AssertEqualNettapCallsUnmeasured(t, telemetry, want{point(8, "traffic")}, ignore)
	metadatatest.AssertEqualNettapTrafficCopies(t, telemetry, want{point(3, "traffic")}, ignore)
	scraper := attribute.NewSet(attribute.String("receiver", "nettap/a"), attribute.String("scraper", "traffic"))
	metadatatest.AssertEqualScraperScrapedMetricPoints(t, telemetry, want{{Value: 12, Attributes: scraper}}, ignore)
	metadatatest.AssertEqualScraperErroredMetricPoints(t, telemetry, want{{Value: 2, Attributes: scraper}}, ignore)

	builder.Shutdown()
	if _, err := telemetry.GetMetric("otelcol_nettap_events_seen"); err == nil {
		t.Error("the statistics are still published after the shutdown")
	}
}

func TestLedgerLog(t *testing.T) {
	core, logged := observer.New(zap.DebugLevel)
	namedStats{"accepts", stats.Totals{
		Hooks: []kernel.Hook{
			{Job: "accept", Name: "tp_btf/sys_exit", Refused: []string{"fentry/security_sock_graft: not permitted"}, NotSeen: "some"},
			{Job: "io_uring_accept", Name: "tp_btf/io_uring_complete", Unproven: "io_uring_setup: function not implemented"},
			{Job: "exec", Name: "tp_btf/sched_process_exec", Awaited: true, Unproven: "no program was run"},
			{Job: "call", Name: "fentry", NotSeen: "waits", Faulty: true},
		},
		Maps: map[string]stats.Map{"listeners": {Limit: 4096}},
	}}.log(zap.New(core))

	type line struct {
		Level   zapcore.Level
		Message string
		Fields  map[string]any
	}
	var got []line
	for _, entry := range logged.AllUntimed() {
		got = append(got, line{entry.Level, entry.Message, entry.ContextMap()})
	}
	want := []line{
		{zap.InfoLevel, "instrument runs", map[string]any{
			"instrument": "accepts", "hooks": []any{"accept by tp_btf/sys_exit", "io_uring_accept by tp_btf/io_uring_complete", "exec by tp_btf/sched_process_exec", "call by fentry"},
		}},
		{zap.DebugLevel, "accepts: what its maps hold at most", map[string]any{"map_limits": map[string]int{"listeners": 4096}}},
		{zap.DebugLevel, "accepts: accept by tp_btf/sys_exit, since better hooks are not to be had", map[string]any{
			"because": []any{"fentry/security_sock_graft: not permitted"},
		}},
		{zap.DebugLevel, "accepts: accept by tp_btf/sys_exit does not see everything", map[string]any{"not_seen": "some"}},
		{zap.WarnLevel, "accepts: io_uring_accept by tp_btf/io_uring_complete is attached, and nothing could make it fire", map[string]any{
			"because": "io_uring_setup: function not implemented",
		}},
		{zap.DebugLevel, "accepts: exec by tp_btf/sched_process_exec is attached, and nothing has made it fire yet", map[string]any{
			"because": "no program was run",
		}},
		{zap.WarnLevel, "accepts: call by fentry does not see everything", map[string]any{"not_seen": "waits"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log differs (-want +got):\n%s", diff)
	}
}

// TestCgroupsAreReportedByOneSignal requires that the statistics of the watch of cgroups, which all signals
// share, are published once.
func TestCgroupsAreReportedByOneSignal(t *testing.T) {
	core, logged := observer.New(zap.DebugLevel)
	shared := newSharedReceiver(createDefaultConfig().(*Config), zap.NewNop())
	names := func() (names []string) {
		r := &signalReceiver{shared: shared, logger: zap.New(core)}
		for _, source := range r.statsSources() {
			names = append(names, source.namedStats().name)
		}
		return names
	}

	got := [][]string{names()} // before any signal has started
	shared.cgroupsStats.Update(func(totals *stats.Totals) {
		totals.Hooks = []kernel.Hook{{Job: "cgroup_made", Name: "none", NotSeen: "some"}}
	})
	got = append(got, names(), names())
	if diff := cmp.Diff([][]string{nil, {"cgroups"}, nil}, got); diff != "" {
		t.Errorf("what the signals report differs (-want +got):\n%s", diff)
	}
	if lines := logged.FilterMessageSnippet("cgroups: cgroup_made by none does not see everything").Len(); lines != 1 {
		t.Errorf("what is not seen is said %d times, want once", lines)
	}
}
