// SPDX-License-Identifier: Apache-2.0

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

// emit returns a log record for each accept, on the resource of its process. judge is called with
// the accepts of one process at a time, and may set their verdicts. wall converts CLOCK_BOOTTIME
// to wall time; now is when the accepts were read.
//
// There are fewer records than accepts if the configuration disables the event or excludes some
// resources.
func emit(builder *metadata.LogsBuilder, describe func(process.ID, process.Seen) process.Process,
	judge func(process.Process, []accept), wall func(bootNanos uint64) time.Time, now time.Time, accepts []accept,
) plog.Logs {
	logs := plog.NewLogs()
	for _, group := range byProcess(accepts) {
		who := describe(group[0].process, group[0].seen)
		judge(who, group)
		for _, a := range group {
			record(builder, wall(a.nanos), a)
		}
		resource := who.Resource(builder.NewResourceBuilder())
		batch := builder.Emit(metadata.WithLogsResource(resource))
		complete(batch, now, func(i int, record plog.LogRecord) {
			record.SetSeverityNumber(group[i].severity())
			record.Body().SetStr(group[i].line())
			record.SetTraceID(group[i].context.TraceID)
		})
		batch.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
	return logs
}

func record(builder *metadata.LogsBuilder, accepted time.Time, a accept) {
	options := []metadata.EventAttributeOption{
		metadata.WithNetworkTransportEventAttribute("tcp"),
		metadata.WithNetworkTypeEventAttribute(networkType(a.local.Addr())),
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
	if a.sequence != 0 {
		options = append(options, metadata.WithNettapConnectionIDEventAttribute(a.id().String()))
	}
	if a.verdict != "" {
		options = append(options, metadata.WithNettapPolicyVerdictEventAttribute(a.verdict))
	}
	if a.context.Source != tracecontext.None {
		options = append(options, metadata.WithNettapTraceContextSourceEventAttribute(a.context.Source.String()))
	}
	builder.RecordNettapConnectionAcceptedEvent(context.Background(), pcommon.NewTimestampFromTime(accepted),
		a.local.Addr().String(), int64(a.local.Port()), a.peer.Addr().String(), int64(a.peer.Port()),
		int64(a.threadID), int64(a.netnsInode), options...)
}

// complete sets what the generated builder cannot: the time when the records were read, and by
// calling set, for each record with its index, the rest. The builder returns the records of a
// resource in the order in which they were recorded, or none.
func complete(batch plog.Logs, now time.Time, set func(i int, record plog.LogRecord)) {
	next := 0
	for _, resource := range batch.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				record.SetObservedTimestamp(pcommon.NewTimestampFromTime(now))
				set(next, record)
				next++
			}
		}
	}
}

func (a accept) severity() plog.SeverityNumber {
	if a.verdict == unexpected {
		return plog.SeverityNumberWarn
	}
	return plog.SeverityNumberInfo
}
