// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"

	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

// signalConsumer delivers the telemetry of one signal: it has the next consumer of a pipeline, and
// the functions for its signal that the receiver needs.
type signalConsumer[T instrument.Telemetry] struct {
	// events is true if an item is reported once, and false if it is a point of a series,
	// which the next one repeats.
	events bool

	size      func(T) size
	consume   func(context.Context, T) error
	clone     func(T) T
	remainder func(whole T, err error) T // what a consumer that took a part has not taken

	// startOp and endOp enclose a delivery for the Collector's own metrics.
	startOp func(context.Context) context.Context
	endOp   func(ctx context.Context, items int, err error)
}

// size is how much a batch contains: items of its signal, and events that they report.
type size struct{ items, events int }

func newMetricsConsumer(settings receiver.Settings, next consumer.Metrics) (signalConsumer[pmetric.Metrics], error) {
	report, err := newReport(settings)
	if err != nil {
		return signalConsumer[pmetric.Metrics]{}, err
	}
	return signalConsumer[pmetric.Metrics]{
		size:    func(batch pmetric.Metrics) size { return size{items: batch.DataPointCount()} },
		consume: next.ConsumeMetrics,
		startOp: report.StartMetricsOp,
		endOp: func(ctx context.Context, items int, err error) {
			report.EndMetricsOp(ctx, metadata.Type.String(), items, err)
		},
	}, nil
}

func newLogsConsumer(settings receiver.Settings, next consumer.Logs) (signalConsumer[plog.Logs], error) {
	report, err := newReport(settings)
	if err != nil {
		return signalConsumer[plog.Logs]{}, err
	}
	return signalConsumer[plog.Logs]{
		events:  true,
		size:    func(batch plog.Logs) size { return size{batch.LogRecordCount(), batch.LogRecordCount()} },
		consume: next.ConsumeLogs,
		clone: func(whole plog.Logs) plog.Logs {
			clone := plog.NewLogs()
			whole.CopyTo(clone)
			return clone
		},
		remainder: func(whole plog.Logs, err error) plog.Logs {
			var partial consumererror.Logs
			if errors.As(err, &partial) {
				return partial.Data()
			}
			return whole
		},
		startOp: report.StartLogsOp,
		endOp: func(ctx context.Context, items int, err error) {
			report.EndLogsOp(ctx, metadata.Type.String(), items, err)
		},
	}, nil
}

func newTracesConsumer(settings receiver.Settings, next consumer.Traces) (signalConsumer[ptrace.Traces], error) {
	report, err := newReport(settings)
	if err != nil {
		return signalConsumer[ptrace.Traces]{}, err
	}
	return signalConsumer[ptrace.Traces]{
		events:  true,
		size:    func(batch ptrace.Traces) size { return size{batch.SpanCount(), roots(batch)} },
		consume: next.ConsumeTraces,
		clone: func(whole ptrace.Traces) ptrace.Traces {
			clone := ptrace.NewTraces()
			whole.CopyTo(clone)
			return clone
		},
		remainder: func(whole ptrace.Traces, err error) ptrace.Traces {
			var partial consumererror.Traces
			if errors.As(err, &partial) {
				return partial.Data()
			}
			return whole
		},
		startOp: report.StartTracesOp,
		endOp: func(ctx context.Context, items int, err error) {
			report.EndTracesOp(ctx, metadata.Type.String(), items, err)
		},
	}, nil
}

// roots returns the number of calls in a batch. The root of a call may have a parent, which is a
// span of the application.
func roots(batch ptrace.Traces) int {
	count := 0
	for _, resource := range batch.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				if _, ok := span.Attributes().Get(calls.RootAttribute); ok {
					count++
				}
			}
		}
	}
	return count
}

func newReport(settings receiver.Settings) (*receiverhelper.ObsReport, error) {
	return receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID:             settings.ID,
		LongLivedCtx:           true,
		ReceiverCreateSettings: settings,
	})
}
