// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// emitter writes drops as OTLP.
type emitter struct {
	builder *metadata.MetricsBuilder
	host    pcommon.Resource
	wall    func(bootNanos uint64) time.Time // of CLOCK_BOOTTIME
	explain bool                             // add an explanation to each point
}

var (
	directions = map[bpfDirection]metadata.AttributeNetworkIoDirection{
		bpfDirectionTRANSMIT: metadata.AttributeNetworkIoDirectionTransmit,
		bpfDirectionRECEIVE:  metadata.AttributeNetworkIoDirectionReceive,
	}
	hows = map[bpfVictim]metadata.AttributeNettapDropVictim{
		bpfVictimVICTIM_SOCKET:        metadata.AttributeNettapDropVictimSocket,
		bpfVictimVICTIM_LAST_LISTENER: metadata.AttributeNettapDropVictimLastListener,
	}
)

// emit makes one data point for each drop. Those of all packets are on the host's resource, and
// those of a process, which are next to each other in drops, on its own. Resets are emitted
// separately.
func (e emitter) emit(now time.Time, drops []drop) pmetric.Metrics {
	all := pmetric.NewMetrics()
	for len(drops) > 0 {
		end := 1
		for end < len(drops) && drops[end].victim == drops[0].victim && drops[end].reset == drops[0].reset {
			end++
		}
		metrics := e.emitOf(drops[0].victim, pcommon.NewTimestampFromTime(now), drops[:end])
		metrics.ResourceMetrics().MoveAndAppendTo(all.ResourceMetrics())
		drops = drops[end:]
	}
	return all
}

// emitOf emits the drops of a process, or those of the host.
func (e emitter) emitOf(v *victim, now pcommon.Timestamp, drops []drop) pmetric.Metrics {
	resource := e.host
	if v != nil {
		resource = v.Resource(e.builder)
	}
	for _, d := range drops {
		if d.reset {
			e.builder.RecordNettapTCPResetDataPoint(now, int64(d.packets), directions[d.direction], d.resetOptions()...)
		} else if v == nil {
			e.builder.RecordNettapPacketDroppedDataPoint(now, int64(d.packets), d.reason, d.class, d.options()...)
		} else {
			e.builder.RecordNettapProcessPacketDroppedDataPoint(now, int64(d.packets), d.reason, d.class,
				hows[d.how], directions[d.direction], d.options()...)
		}
	}
	metrics := e.builder.Emit(metadata.WithResource(resource))
	e.complete(metrics, drops)
	return metrics
}

// emitUnseen makes one data point for each counter, on the host's resource.
func (e emitter) emitUnseen(now time.Time, all []unseen) pmetric.ResourceMetricsSlice {
	for _, u := range all {
		e.builder.RecordNettapDropUnseenDataPoint(pcommon.NewTimestampFromTime(now), int64(u.packets), u.counter)
	}
	metrics := e.builder.Emit(metadata.WithResource(e.host))
	next := 0
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, point := range metric.Sum().DataPoints().All() {
					point.SetStartTimestamp(pcommon.NewTimestampFromTime(all[next].start))
					next++
				}
			}
		}
	}
	return metrics.ResourceMetrics()
}

// complete sets what the generated builder cannot. The builder returns the points in the order in
// which they were recorded, or none.
func (e emitter) complete(metrics pmetric.Metrics, drops []drop) {
	next := 0
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				for _, point := range metric.Sum().DataPoints().All() {
					drops[next].complete(point, e.wall)
					if words := drops[next].explanation(); e.explain && words != "" {
						point.Attributes().PutStr("nettap.drop.explanation", words)
					}
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

// options returns the attributes that are left out if they are not known.
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

func (s series) resetOptions() []metadata.MetricAttributeOption {
	if s.reason == "" {
		return nil
	}
	return []metadata.MetricAttributeOption{metadata.WithNettapTCPResetReasonMetricAttribute(s.reason)}
}
