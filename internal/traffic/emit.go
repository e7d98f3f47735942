// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"encoding/binary"
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
	speak          func(process.ID, process.Seen) *member // see [roster.speak]
	withTransports bool                                   // transports are shown
	withTypes      bool                                   // ethertypes are shown
	start          time.Time                              // when the receiver started
	boot           uint64                                 // the same in ns since boot
}

// emit writes a resource for each process and one for the interfaces. A series that has ended gets
// one more point, without a value.
func (e emitter) emit(now time.Time, r *report) pmetric.Metrics {
	at := pcommon.NewTimestampFromTime(now)
	end := at
	if r.final {
		// a series must not have two points at the same time
		end = pcommon.NewTimestampFromTime(now.Add(time.Millisecond))
	}
	ended, metrics := pmetric.NewMetrics(), pmetric.NewMetrics()
	e.emitProcesses(ended.ResourceMetrics(), end, r.gone)
	e.emitInterfaces(ended.ResourceMetrics(), end, r.departed)
	withoutValues(ended)

	for _, u := range r.resumed {
		e.emitProcesses(metrics.ResourceMetrics(), e.startedAt(u.until), []usage{u})
	}
	for _, st := range r.reopened {
		e.emitInterfaces(metrics.ResourceMetrics(), e.startedAt(st.until), []statement{st})
	}
	e.emitProcesses(metrics.ResourceMetrics(), at, r.processes)
	e.emitInterfaces(metrics.ResourceMetrics(), at, r.interfaces)
	ended.ResourceMetrics().MoveAndAppendTo(metrics.ResourceMetrics())
	if e.withTransports {
		withoutUnknown(metrics)
	}
	return metrics
}

// emitProcesses writes each usage. The generated builder makes the first usage of each set of
// series. The others are copies of a form with what differs, because the builder allocates each
// point twice.
func (e emitter) emitProcesses(to pmetric.ResourceMetricsSlice, at pcommon.Timestamp, usages []usage) {
	to.EnsureCapacity(to.Len() + len(usages))
	forms := make(map[string]pmetric.ResourceMetrics)
	var series []byte
	for _, u := range usages {
		series = seriesOf(series[:0], u.rows)
		form, met := forms[string(series)]
		who := e.speak(u.process.ID, u.process.Seen)
		if met && who.isShown {
			e.fillForm(to.AppendEmpty(), form, u, who.resource)
			continue
		}
		place := to.Len()
		e.buildUsage(at, u, who.resource)
		e.builder.Emit().ResourceMetrics().MoveAndAppendTo(to)
		who.isShown = to.Len() > place
		if !met && who.isShown && hasPoints(to.At(place), len(u.rows)) {
			forms[string(series)] = formOf(to.At(place))
		}
	}
}

// seriesOf appends to text what identifies the series of some rows.
func seriesOf(text []byte, rows []row) []byte {
	for _, r := range rows {
		text = append(text, r.interfaceName...)
		text = append(text, 0, byte(r.direction), r.transport)
		text = binary.NativeEndian.AppendUint16(text, r.networkType)
		text = binary.NativeEndian.AppendUint32(text, r.netnsInode)
	}
	return text
}

// hasPoints reports whether each metric has so many points. There are fewer if the builder adds up
// series, because the configuration leaves out what distinguishes them.
func hasPoints(resource pmetric.ResourceMetrics, points int) bool {
	for _, metric := range resource.ScopeMetrics().At(0).Metrics().All() {
		if metric.Sum().DataPoints().Len() != points {
			return false
		}
	}
	return true
}

// formOf returns a copy without what differs between processes: their resource, and the values of the
// points, for which a copy of the form would allocate memory that is then not used.
func formOf(resource pmetric.ResourceMetrics) pmetric.ResourceMetrics {
	form := pmetric.NewResourceMetrics()
	form.SetSchemaUrl(resource.SchemaUrl())
	resource.ScopeMetrics().CopyTo(form.ScopeMetrics())
	for _, metric := range form.ScopeMetrics().At(0).Metrics().All() {
		points := pmetric.NewNumberDataPointSlice()
		points.EnsureCapacity(metric.Sum().DataPoints().Len())
		for _, point := range metric.Sum().DataPoints().All() {
			empty := points.AppendEmpty()
			empty.SetTimestamp(point.Timestamp())
			point.Attributes().MoveTo(empty.Attributes())
		}
		points.CopyTo(metric.Sum().DataPoints())
	}
	return form
}

// fillForm writes a usage that has the series of a form, for the same time.
func (e emitter) fillForm(to, form pmetric.ResourceMetrics, u usage, resource pcommon.Resource) {
	resource.CopyTo(to.Resource())
	to.SetSchemaUrl(form.SchemaUrl())
	form.ScopeMetrics().CopyTo(to.ScopeMetrics())
	start := e.startedAt(u.start)
	metrics := to.ScopeMetrics().At(0).Metrics()
	for m := range metrics.Len() {
		inBytes := metrics.At(m).Name() == metadata.MetricsInfo.ProcessNetworkIo.Name
		points := metrics.At(m).Sum().DataPoints()
		for i, row := range u.rows {
			points.At(i).SetStartTimestamp(start)
			if inBytes {
				points.At(i).SetIntValue(int64(row.bytes))
			} else {
				points.At(i).SetIntValue(int64(row.packets))
			}
		}
	}
}

func (e emitter) buildUsage(at pcommon.Timestamp, u usage, resource pcommon.Resource) {
	for _, row := range u.rows {
		e.buildRow(at, row)
	}
	e.builder.EmitForResource(metadata.WithResource(resource), metadata.WithStartTimeOverride(e.startedAt(u.start)))
}

// startedAt returns the wall time of a series' start. It is relative to the receiver's own start,
// so that it does not change when the wall clock is set.
func (e emitter) startedAt(boot uint64) pcommon.Timestamp {
	return pcommon.NewTimestampFromTime(e.start.Add(time.Duration(boot - e.boot)))
}

// buildRow writes one row. Packets that are not IP, such as ARP, have no transport.
func (e emitter) buildRow(at pcommon.Timestamp, r row) {
	named := interfaceName(r.interfaceName)
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

func (e emitter) emitInterfaces(to pmetric.ResourceMetricsSlice, at pcommon.Timestamp, statements []statement) {
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
			host := e.speak(process.ID{}, process.Seen{}).resource
			e.builder.EmitForResource(metadata.WithResource(host), metadata.WithStartTimeOverride(e.startedAt(st.start)))
		}
	}
	e.builder.Emit().ResourceMetrics().MoveAndAppendTo(to)
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

// withoutUnknown removes attributes that are not known, which the generated builder cannot leave
// out if users switch them on.
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
