// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	conventions "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// eventName is the name of the event in the log record of a dropped packet.
const eventName = "nettap.packet.dropped"

// recordEmitter writes dropped packets as OTLP.
type recordEmitter struct {
	host    pcommon.Resource
	version string // of the receiver
	wall    func(bootNanos uint64) time.Time
}

// emit makes a log record for each packet, on the host's resource.
func (e recordEmitter) emit(now time.Time, packets []droppedPacket) plog.Logs {
	logs := plog.NewLogs()
	if len(packets) == 0 {
		return logs
	}
	batch := logs.ResourceLogs().AppendEmpty()
	batch.SetSchemaUrl(conventions.SchemaURL)
	e.host.CopyTo(batch.Resource())
	scope := batch.ScopeLogs().AppendEmpty()
	scope.Scope().SetName(metadata.ScopeName)
	scope.Scope().SetVersion(e.version)
	for _, p := range packets {
		record := scope.LogRecords().AppendEmpty()
		record.SetEventName(eventName)
		record.SetTimestamp(pcommon.NewTimestampFromTime(e.wall(p.nanos)))
		record.SetObservedTimestamp(pcommon.NewTimestampFromTime(now))
		record.SetSeverityNumber(p.severity())
		record.Body().SetStr(p.line())
		record.SetTraceID(p.context.TraceID)
		record.SetSpanID(p.context.SpanID)
		p.describe(record.Attributes())
	}
	return logs
}

func (p droppedPacket) severity() plog.SeverityNumber {
	if p.class == metadata.AttributeNettapDropClassLoss {
		return plog.SeverityNumberWarn
	}
	return plog.SeverityNumberInfo
}

// describe sets what is known of a packet. The other attributes are absent.
func (p droppedPacket) describe(attributes pcommon.Map) {
	for _, one := range []struct{ key, value string }{
		{"nettap.drop.reason", p.reason},
		{"nettap.drop.class", p.class.String()},
		{"nettap.drop.explanation", p.explanation()},
		{"code.function.name", p.function},
		{"code.stacktrace", strings.Join(p.stack, "\n")},
		{"network.interface.name", p.interfaceName},
		{"network.transport", p.transport},
		{"network.type", p.networkType},
		{"nettap.tcp.flags", p.flags()},
	} {
		if one.value != "" {
			attributes.PutStr(one.key, one.value)
		}
	}
	attributes.PutInt("nettap.packet.size", int64(p.length))
	if p.netnsInode != 0 {
		attributes.PutInt("nettap.netns.inode", int64(p.netnsInode))
	}
	if p.source.IsValid() {
		attributes.PutStr("source.address", p.source.Addr().String())
	}
	if p.destination.IsValid() {
		attributes.PutStr("destination.address", p.destination.Addr().String())
	}
	if p.source.Port() != 0 {
		attributes.PutInt("source.port", int64(p.source.Port()))
	}
	if p.destination.Port() != 0 {
		attributes.PutInt("destination.port", int64(p.destination.Port()))
	}
}
