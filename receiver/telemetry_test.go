package nettapreceiver

import (
	"context"
	"testing"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/metadatatest"
)

// clerk is a worker that only has books.
type clerk struct {
	name string
	page books.Page
}

func (*clerk) Start(context.Context) error    { return nil }
func (*clerk) Begin() error                   { return nil }
func (*clerk) Shutdown(context.Context) error { return nil }
func (c *clerk) ledger() ledger               { return ledger{c.name, c.page} }

func TestPublish(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	defer telemetry.Shutdown(t.Context())
	traffic := &clerk{"traffic", books.Page{
		Counts: books.Counts{Seen: 10, Aggregated: 6, Lost: map[string]uint64{"map_full": 4}},
		Copies: 3,
		Maps:   map[string]books.Map{"processes": {Entries: 5, Limit: 4096}},
		Hooks: []kernel.Hook{
			{Job: "transmit", Name: "tp_btf/net_dev_start_xmit"},
			{Job: "arrival", Name: "tp_btf/netif_receive_skb", Unproven: "lo is down"},
		},
	}}
	accepts := &clerk{"accepts", books.Page{Counts: books.Counts{Seen: 9, Exported: 6, SampledOut: 1, Lost: map[string]uint64{"ring_full": 2}}}}
	builder, err := publish(telemetry.NewTelemetrySettings(), component.NewIDWithName(metadata.Type, "a"), []worker{traffic, accepts})
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
	metadatatest.AssertEqualNettapEventsLost(t, telemetry, want{
		point(4, "traffic", attribute.String("cause", "map_full")),
		point(2, "accepts", attribute.String("cause", "ring_full")),
	}, ignore)
	metadatatest.AssertEqualNettapHookActive(t, telemetry, want{
		point(1, "traffic", attribute.String("job", "transmit"), attribute.String("hook", "tp_btf/net_dev_start_xmit")),
		point(0, "traffic", attribute.String("job", "arrival"), attribute.String("hook", "tp_btf/netif_receive_skb")),
	}, ignore)
	metadatatest.AssertEqualNettapMapEntries(t, telemetry, want{point(5, "traffic", attribute.String("map", "processes"))}, ignore)
	metadatatest.AssertEqualNettapMapLimit(t, telemetry, want{point(4096, "traffic", attribute.String("map", "processes"))}, ignore)
	metadatatest.AssertEqualNettapTrafficCopies(t, telemetry, want{point(3, "traffic")}, ignore)

	builder.Shutdown()
	if _, err := telemetry.GetMetric("otelcol_nettap_events_seen"); err == nil {
		t.Error("the books are still published after the shutdown")
	}
}
