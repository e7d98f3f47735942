package traffic

import (
	"iter"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/packet"
	"github.com/seed-7756021b/nettap/internal/process"
)

var directions = map[bpfDirection]metadata.AttributeNetworkIoDirection{
	bpfDirectionTRANSMIT: metadata.AttributeNetworkIoDirectionTransmit,
	bpfDirectionRECEIVE:  metadata.AttributeNetworkIoDirectionReceive,
}

// emitter writes reports as OTLP.
type emitter struct {
	builder        *metadata.MetricsBuilder
	resource       func(process.ID, process.Seen) pcommon.Resource
	withTransports bool      // they are shown
	withTypes      bool      // likewise
	start          time.Time // of the receiver
	boot           uint64    // the same in ns since boot
}

// emit writes a resource for each process and one for the interfaces. Series
// that have ended get one more point, without a value.
func (e emitter) emit(now time.Time, r *report) pmetric.Metrics {
	at := pcommon.NewTimestampFromTime(now)
	end := at
	if r.final {
		end = pcommon.NewTimestampFromTime(now.Add(time.Millisecond)) // no two points of a series at one time
	}
	e.emitProcesses(end, r.gone)
	e.emitInterfaces(end, r.departed)
	ended := e.builder.Emit()
	withoutValues(ended)

	for _, u := range r.resumed {
		e.emitProcesses(e.startedAt(u.until), []usage{u})
	}
	for _, st := range r.reopened {
		e.emitInterfaces(e.startedAt(st.until), []statement{st})
	}
	e.emitProcesses(at, r.processes)
	e.emitInterfaces(at, r.interfaces)
	metrics := e.builder.Emit()
	ended.ResourceMetrics().MoveAndAppendTo(metrics.ResourceMetrics())
	if e.withTransports {
		withoutUnknown(metrics)
	}
	return metrics
}

func (e emitter) emitProcesses(at pcommon.Timestamp, usages []usage) {
	var name string
	var named []metadata.MetricAttributeOption // of most rows it is the same
	for _, u := range usages {
		for _, row := range u.rows {
			if row.interfaceName != name {
				name, named = row.interfaceName, interfaceName(row.interfaceName)
			}
			e.emitRow(at, row, named)
		}
		e.builder.EmitForResource(metadata.WithResource(e.resource(u.process.ID, u.process.Seen)),
			metadata.WithStartTimeOverride(e.startedAt(u.start)))
	}
}

// startedAt is the wall time of a series' start. It hangs on the receiver's own start, so
// that it stays the same when the wall clock is set.
func (e emitter) startedAt(boot uint64) pcommon.Timestamp {
	return pcommon.NewTimestampFromTime(e.start.Add(time.Duration(boot - e.boot)))
}

// emitRow writes one row. What is no IP packet, such as ARP, has no transport.
func (e emitter) emitRow(at pcommon.Timestamp, r row, named []metadata.MetricAttributeOption) {
	var transport, networkType string
	if r.transport != 0 {
		transport = packet.Transport(r.transport)
	}
	if e.withTypes {
		networkType = packet.Type(r.networkType)
	}
	e.builder.RecordProcessNetworkIoDataPoint(at, int64(r.bytes), directions[r.direction],
		transport, networkType, int64(r.netnsInode), named...)
	e.builder.RecordNettapProcessNetworkPacketCountDataPoint(at, int64(r.packets), directions[r.direction],
		transport, networkType, int64(r.netnsInode), named...)
}

func (e emitter) emitInterfaces(at pcommon.Timestamp, statements []statement) {
	for i, st := range statements {
		inode, name := int64(st.netnsInode), interfaceName(st.interfaceName)
		for _, a := range st.accounts {
			account := metadata.MapAttributeNettapAccount[a.account]
			e.builder.RecordNettapInterfaceIoDataPoint(at, int64(a.bytes), directions[a.direction], inode, account, st.stacked, name...)
			e.builder.RecordNettapInterfacePacketCountDataPoint(at, int64(a.packets), directions[a.direction], inode, account, st.stacked, name...)
		}
		for _, u := range st.unobserved {
			e.builder.RecordNettapInterfaceUnobservedIoDataPoint(at, u.bytes, directions[u.direction], inode, st.stacked, name...)
			e.builder.RecordNettapInterfaceUnobservedPacketCountDataPoint(at, u.packets, directions[u.direction], inode, st.stacked, name...)
		}
		if last := i+1 == len(statements); last || statements[i+1].start != st.start {
			host := e.resource(process.ID{}, process.Seen{})
			e.builder.EmitForResource(metadata.WithResource(host), metadata.WithStartTimeOverride(e.startedAt(st.start)))
		}
	}
}

func interfaceName(name string) []metadata.MetricAttributeOption {
	if name == "" {
		return nil
	}
	return []metadata.MetricAttributeOption{metadata.WithNetworkInterfaceNameMetricAttribute(name)}
}

// withoutValues marks every point as the end of its series.
func withoutValues(metrics pmetric.Metrics) {
	for point := range points(metrics) {
		point.SetFlags(point.Flags().WithNoRecordedValue(true))
		point.SetIntValue(0)
	}
}

// withoutUnknown takes away attributes that are unknown, which the generated builder
// cannot leave out where users switch them on.
func withoutUnknown(metrics pmetric.Metrics) {
	for point := range points(metrics) {
		if transport, ok := point.Attributes().Get("network.transport"); ok && transport.Str() == "" {
			point.Attributes().Remove("network.transport")
		}
	}
}

func points(metrics pmetric.Metrics) iter.Seq[pmetric.NumberDataPoint] {
	return func(yield func(pmetric.NumberDataPoint) bool) {
		for _, resource := range metrics.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				for _, metric := range scope.Metrics().All() {
					for _, point := range metric.Sum().DataPoints().All() {
						if !yield(point) {
							return
						}
					}
				}
			}
		}
	}
}
