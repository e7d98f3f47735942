// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/histogram"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

// emitter writes points as OTLP.
type emitter struct {
	builder *metadata.MetricsBuilder
	host    pcommon.Resource
}

// emit makes a data point of each point. Points without a process are on the host's resource. The points
// of a process must follow each other, and are on its resource.
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

// emitOf makes the data points of one resource.
func (e emitter) emitOf(resource pcommon.Resource, now pcommon.Timestamp, points []point) pmetric.Metrics {
	recorded := map[string][]point{} // by metric, in the order in which they are recorded
	record := func(info string, p point) { recorded[info] = append(recorded[info], p) }
	for _, p := range points {
		switch p.deed {
		case bpfDeedDEED_RETRANSMIT:
			e.builder.RecordNettapProcessTCPRetransmitsDataPoint(now, int64(p.tally.Count))
			record(metadata.MetricsInfo.NettapProcessTCPRetransmits.Name, p)
		case bpfDeedDEED_CONNECT:
			e.builder.RecordNettapProcessTCPConnectsDataPoint(now, int64(p.tally.Count), p.options()...)
			record(metadata.MetricsInfo.NettapProcessTCPConnects.Name, p)
		case bpfDeedDEED_END:
			e.builder.RecordNettapProcessTCPRttDataPoint(now, 0, p.role)
			record(metadata.MetricsInfo.NettapProcessTCPRtt.Name, p)
		}
	}
	metrics := e.builder.Emit(metadata.WithResource(resource))
	complete(metrics, recorded)
	return metrics
}

func (p point) options() []metadata.MetricAttributeOption {
	if p.error == "" {
		return nil
	}
	return []metadata.MetricAttributeOption{metadata.WithErrorTypeConnectMetricAttribute(p.error)}
}

// complete sets what the generated builder cannot set. The builder has all points of a metric in the
// order in which they were recorded, or none if the metric is off.
func complete(metrics pmetric.Metrics, recorded map[string][]point) {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				points := recorded[metric.Name()]
				if metric.Type() == pmetric.MetricTypeHistogram {
					for i, of := range metric.Histogram().DataPoints().All() {
						points[i].completeHistogram(of)
					}
					continue
				}
				for i, of := range metric.Sum().DataPoints().All() {
					of.SetStartTimestamp(pcommon.NewTimestampFromTime(points[i].start))
					of.SetFlags(of.Flags().WithNoRecordedValue(points[i].ended))
				}
			}
		}
	}
}

func (p point) completeHistogram(to pmetric.HistogramDataPoint) {
	to.SetStartTimestamp(pcommon.NewTimestampFromTime(p.start))
	if p.role == "" {
		to.Attributes().Remove("nettap.connection.role")
	}
	if p.ended {
		histogram.End(to)
		return
	}
	histogram.Fill(to, time.Duration(p.tally.SumUs)*time.Microsecond, bounds[:], p.tally.Ranges[:])
}
