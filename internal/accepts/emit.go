package accepts

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// emit returns a log record for each accept, on the resource of its process.
// wall turns CLOCK_BOOTTIME into wall time; now is when the accepts were read.
//
// There are fewer records than accepts when the configuration switches the event
// off, or leaves some resources out.
func emit(builder *metadata.LogsBuilder, describe func(process.ID, process.Seen) process.Process,
	wall func(bootNanos uint64) time.Time, now time.Time, accepts []accept,
) plog.Logs {
	logs := plog.NewLogs()
	for _, group := range byProcess(accepts) {
		for _, a := range group {
			record(builder, wall(a.nanos), a)
		}
		resource := describe(group[0].process, group[0].seen).Resource(builder.NewResourceBuilder())
		batch := builder.Emit(metadata.WithLogsResource(resource))
		complete(batch, now, group)
		batch.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
	return logs
}

func record(builder *metadata.LogsBuilder, accepted time.Time, a accept) {
	options := []metadata.EventAttributeOption{
		metadata.WithNetworkTransportEventAttribute("tcp"),
		metadata.WithNetworkTypeEventAttribute(a.networkType()),
	}
	if a.queued >= 0 {
		options = append(options, metadata.WithNettapAcceptQueueDurationEventAttribute(a.queued.Seconds()))
	}
	if a.queueLength >= 0 {
		options = append(options, metadata.WithNettapAcceptQueueLengthEventAttribute(int64(a.queueLength)))
	}
	if a.queueLimit >= 0 {
		options = append(options, metadata.WithNettapAcceptQueueLimitEventAttribute(int64(a.queueLimit)))
	}
	if a.context.Source != tracecontext.None {
		options = append(options, metadata.WithNettapTraceContextSourceEventAttribute(a.context.Source.String()))
	}
	builder.RecordNettapConnectionAcceptedEvent(context.Background(), pcommon.NewTimestampFromTime(accepted),
		a.local.Addr().String(), int64(a.local.Port()), a.peer.Addr().String(), int64(a.peer.Port()),
		int64(a.threadID), int64(a.netnsInode), options...)
}

// complete sets what the generated builder cannot. It gives the records of a
// resource in the order they were recorded, or none.
func complete(batch plog.Logs, now time.Time, group []accept) {
	next := 0
	for _, resource := range batch.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				record.SetObservedTimestamp(pcommon.NewTimestampFromTime(now))
				record.SetSeverityNumber(plog.SeverityNumberInfo)
				record.Body().SetStr(group[next].line())
				record.SetTraceID(group[next].context.TraceID)
				next++
			}
		}
	}
}
