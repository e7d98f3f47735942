// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	conventions "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// RoundTrip is the histogram that the generated builder cannot make.
const (
	RoundTrip            = "nettap.process.tcp.rtt"
	roundTripDescription = "Smoothed round-trip times of the TCP connections of the process, each when it ends."
)

// emitter writes points as OTLP.
type emitter struct {
	builder    *metadata.MetricsBuilder
	host       pcommon.Resource
	version    string // of the scope
	roundTrips bool   // are wanted
}

// emit makes one data point of each, those of no process on the host's resource, and those of
// a process, which stand together, on its own.
func (e emitter) emit(now time.Time, points []point) pmetric.Metrics {
	all := pmetric.NewMetrics()
	for len(points) > 0 {
		end := 1
		for end < len(points) && points[end].member == points[0].member {
			end++
		}
		resource := e.host
		if m := points[0].member; m != nil {
			resource = m.Resource(e.builder)
		}
		metrics := e.emitOf(resource, pcommon.NewTimestampFromTime(now), points[:end])
		metrics.ResourceMetrics().MoveAndAppendTo(all.ResourceMetrics())
		points = points[end:]
	}
	return all
}

// emitOf emits the points of one resource.
func (e emitter) emitOf(resource pcommon.Resource, now pcommon.Timestamp, points []point) pmetric.Metrics {
	sums := map[string][]point{} // by metric, in the order in which they are recorded
	var ends []point
	record := func(info string, p point) { sums[info] = append(sums[info], p) }
	for _, p := range points {
		switch p.deed {
		case bpfDeedDEED_RETRANSMIT:
			e.builder.RecordNettapProcessTCPRetransmitsDataPoint(now, int64(p.tally.Count))
			record(metadata.MetricsInfo.NettapProcessTCPRetransmits.Name, p)
		case bpfDeedDEED_CONNECT:
			e.builder.RecordNettapProcessTCPConnectsDataPoint(now, int64(p.tally.Count), p.options()...)
			record(metadata.MetricsInfo.NettapProcessTCPConnects.Name, p)
		case bpfDeedDEED_END:
			ends = append(ends, p)
		}
	}
	metrics := e.builder.Emit(metadata.WithResource(resource))
	completeSums(metrics, sums)
	if e.roundTrips && len(ends) > 0 {
		appendHistogram(e.metricsOf(metrics, resource), now, ends)
	}
	return metrics
}

func (p point) options() []metadata.MetricAttributeOption {
	if p.error == "" {
		return nil
	}
	return []metadata.MetricAttributeOption{metadata.WithErrorTypeConnectMetricAttribute(p.error)}
}

// completeSums sets what the generated builder cannot. It gives the points of a metric in the
// order they were recorded, or none.
func completeSums(metrics pmetric.Metrics, recorded map[string][]point) {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for i, dataPoint := range metric.Sum().DataPoints().All() {
					p := recorded[metric.Name()][i]
					dataPoint.SetStartTimestamp(pcommon.NewTimestampFromTime(p.start))
					dataPoint.SetFlags(dataPoint.Flags().WithNoRecordedValue(p.ended))
				}
			}
		}
	}
}

// metricsOf returns where the builder has put its metrics. It has put them nowhere if there
// were none.
func (e emitter) metricsOf(metrics pmetric.Metrics, resource pcommon.Resource) pmetric.MetricSlice {
	if metrics.ResourceMetrics().Len() > 0 {
		return metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
	}
	of := metrics.ResourceMetrics().AppendEmpty()
	of.SetSchemaUrl(conventions.SchemaURL)
	resource.CopyTo(of.Resource())
	scope := of.ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(metadata.ScopeName)
	scope.Scope().SetVersion(e.version)
	return scope.Metrics()
}

func appendHistogram(metrics pmetric.MetricSlice, now pcommon.Timestamp, ends []point) {
	metric := metrics.AppendEmpty()
	metric.SetName(RoundTrip)
	metric.SetDescription(roundTripDescription)
	metric.SetUnit("s")
	histogram := metric.SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for _, p := range ends {
		p.fill(histogram.DataPoints().AppendEmpty(), now)
	}
}

func (p point) fill(to pmetric.HistogramDataPoint, now pcommon.Timestamp) {
	to.SetTimestamp(now)
	to.SetStartTimestamp(pcommon.NewTimestampFromTime(p.start))
	to.SetFlags(to.Flags().WithNoRecordedValue(p.ended))
	if p.role != "" {
		to.Attributes().PutStr("nettap.connection.role", p.role)
	}
	if p.ended {
		return
	}
	to.SetCount(p.tally.Count)
	to.SetSum((time.Duration(p.tally.SumUs) * time.Microsecond).Seconds())
	for _, bound := range bounds {
		to.ExplicitBounds().Append(bound.Seconds())
	}
	to.BucketCounts().Append(p.tally.Ranges[:]...)
}
