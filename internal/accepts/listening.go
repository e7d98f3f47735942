// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/listeners"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/plain"
	"github.com/seed-7756021b/nettap/internal/process"
)

// emitListeners adds a log record for each listener that began and for each that stopped, on the
// resource of its process.
func emitListeners(logs plog.Logs, builder *metadata.LogsBuilder, describe func(process.ID, process.Seen) process.Process,
	wall func(bootNanos uint64) time.Time, now time.Time, changes listeners.Changes,
) {
	at := func(bootNanos uint64) pcommon.Timestamp {
		if bootNanos == 0 {
			return 0 // the time is not known
		}
		return pcommon.NewTimestampFromTime(wall(bootNanos))
	}
	for _, change := range []struct {
		listeners []listeners.Listener
		record    func(listeners.Listener)
		line      func(listeners.Listener) string
	}{
		{changes.Opened, func(l listeners.Listener) { recordOpened(builder, at(l.Opened), l) }, openedLine},
		{changes.Closed, func(l listeners.Listener) { recordStopped(builder, at(l.Closed), l) }, stoppedLine},
	} {
		for _, group := range process.Group(change.listeners, func(l listeners.Listener) process.ID { return l.Process }) {
			for _, l := range group {
				change.record(l)
			}
			who := describe(group[0].Process, group[0].Seen)
			batch := builder.Emit(metadata.WithLogsResource(who.Resource(builder.NewResourceBuilder())))
			complete(batch, now, func(i int, record plog.LogRecord) {
				record.SetSeverityNumber(plog.SeverityNumberInfo)
				record.Body().SetStr(change.line(group[i]))
			})
			batch.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
		}
	}
}

func recordOpened(builder *metadata.LogsBuilder, opened pcommon.Timestamp, l listeners.Listener) {
	builder.RecordNettapListenerOpenedEvent(context.Background(), opened, l.Local.Addr().String(), int64(l.Local.Port()),
		int64(l.NetnsInode), int64(l.Inode), int64(l.QueueLimit), l.Opened == 0,
		metadata.WithNetworkTransportEventAttribute("tcp"), metadata.WithNetworkTypeEventAttribute(networkType(l.Local.Addr())))
}

func recordStopped(builder *metadata.LogsBuilder, closed pcommon.Timestamp, l listeners.Listener) {
	options := []metadata.EventAttributeOption{
		metadata.WithNetworkTransportEventAttribute("tcp"), metadata.WithNetworkTypeEventAttribute(networkType(l.Local.Addr())),
	}
	if listened, ok := timeOf(l); ok {
		options = append(options, metadata.WithNettapListenerDurationEventAttribute(listened.Seconds()))
	}
	builder.RecordNettapListenerClosedEvent(context.Background(), closed, l.Local.Addr().String(), int64(l.Local.Port()),
		int64(l.NetnsInode), int64(l.Inode), options...)
}

// timeOf returns how long a listener existed, if both its beginning and its end were seen.
func timeOf(l listeners.Listener) (listened time.Duration, ok bool) {
	return time.Duration(l.Closed - l.Opened), l.Opened != 0 && l.Closed != 0
}

// openedLine describes the beginning of a listener in one line for people:
//
//	sshd[3165] uid 0 listens on 0.0.0.0:22, up to 128 connections wait
//	nginx[71] uid 0 listens on [::]:443, up to 511 connections wait, since before nettap's start
func openedLine(l listeners.Listener) string {
	line := fmt.Sprintf("%s[%d] uid %d listens on %s, up to %d connections wait", plain.Text(l.Seen.Comm), l.Process.PID, l.Process.RealUserID, l.Local, l.QueueLimit)
	if l.Opened == 0 {
		line += ", since before nettap's start"
	}
	return line
}

// stoppedLine describes the end of a listener in one line for people:
//
//	sshd[3165] uid 0 listens no more on 0.0.0.0:22, after 1.5s
func stoppedLine(l listeners.Listener) string {
	line := fmt.Sprintf("%s[%d] uid %d listens no more on %s", plain.Text(l.Seen.Comm), l.Process.PID, l.Process.RealUserID, l.Local)
	if listened, ok := timeOf(l); ok {
		line += fmt.Sprintf(", after %v", listened.Round(time.Microsecond))
	}
	return line
}
