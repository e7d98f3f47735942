package drops

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// emit makes one data point of each drop, all on one resource: a packet that
// was dropped belongs to no process. wall turns CLOCK_BOOTTIME into wall time.
func emit(builder *metadata.MetricsBuilder, resource pcommon.Resource, now time.Time,
	wall func(bootNanos uint64) time.Time, drops []drop,
) pmetric.Metrics {
	timestamp := pcommon.NewTimestampFromTime(now)
	for _, d := range drops {
		builder.RecordNettapPacketDroppedDataPoint(timestamp, int64(d.packets), d.reason, d.class, d.options()...)
	}
	metrics := builder.Emit(metadata.WithResource(resource))
	complete(metrics, wall, drops)
	return metrics
}

// complete sets what the generated builder cannot. It gives the points in the
// order they were recorded, or none.
func complete(metrics pmetric.Metrics, wall func(bootNanos uint64) time.Time, drops []drop) {
	next := 0
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, point := range metric.Sum().DataPoints().All() {
					drops[next].complete(point, wall)
					next++
				}
			}
		}
	}
}

func (d drop) complete(point pmetric.NumberDataPoint, wall func(bootNanos uint64) time.Time) {
	point.SetStartTimestamp(pcommon.NewTimestampFromTime(d.start))
	point.SetFlags(point.Flags().WithNoRecordedValue(d.ended))
	for _, e := range d.exemplars {
		e.appendTo(point.Exemplars(), wall)
	}
}

func (e exemplar) appendTo(exemplars pmetric.ExemplarSlice, wall func(bootNanos uint64) time.Time) {
	one := exemplars.AppendEmpty()
	one.SetIntValue(1)
	one.SetTimestamp(pcommon.NewTimestampFromTime(wall(e.nanos)))
	one.SetTraceID(e.context.TraceID)
	one.SetSpanID(e.context.SpanID)
	one.FilteredAttributes().PutStr("nettap.trace_context.source", e.context.Source.String())
}

// options are the attributes that are left out where they are unknown.
func (s series) options() []metadata.MetricAttributeOption {
	var options []metadata.MetricAttributeOption
	add := func(option func(string) metadata.MetricAttributeOption, value string) {
		if value != "" {
			options = append(options, option(value))
		}
	}
	add(metadata.WithCodeFunctionNameMetricAttribute, s.function)
	add(metadata.WithNetworkInterfaceNameMetricAttribute, s.interfaceName)
	add(metadata.WithNetworkTransportMetricAttribute, s.transport)
	add(metadata.WithNetworkTypeMetricAttribute, s.networkType)
	return options
}
