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

// outlet is where the telemetry of one signal leaves the receiver.
type outlet[T instrument.Telemetry] struct {
	// events is true when an item is reported once; false when it is a point of
	// a series, which the next one repeats.
	events bool

	size    func(T) size
	consume func(context.Context, T) error
	clone   func(T) T
	rest    func(whole T, err error) T // what a consumer that took some has not taken

	// begin and end enclose a delivery for the Collector's own metrics.
	begin func(context.Context) context.Context
	end   func(ctx context.Context, items int, err error)
}

// size is how much a batch holds: items of its signal, and events that they report.
type size struct{ items, events int }

func metricsOutlet(settings receiver.Settings, next consumer.Metrics) (outlet[pmetric.Metrics], error) {
	report, err := newReport(settings)
	if err != nil {
		return outlet[pmetric.Metrics]{}, err
	}
	return outlet[pmetric.Metrics]{
		size:    func(batch pmetric.Metrics) size { return size{items: batch.DataPointCount()} },
		consume: next.ConsumeMetrics,
		begin:   report.StartMetricsOp,
		end: func(ctx context.Context, items int, err error) {
			report.EndMetricsOp(ctx, metadata.Type.String(), items, err)
		},
	}, nil
}

func logsOutlet(settings receiver.Settings, next consumer.Logs) (outlet[plog.Logs], error) {
	report, err := newReport(settings)
	if err != nil {
		return outlet[plog.Logs]{}, err
	}
	return outlet[plog.Logs]{
		events:  true,
		size:    func(batch plog.Logs) size { return size{batch.LogRecordCount(), batch.LogRecordCount()} },
		consume: next.ConsumeLogs,
		clone: func(whole plog.Logs) plog.Logs {
			clone := plog.NewLogs()
			whole.CopyTo(clone)
			return clone
		},
		rest: func(whole plog.Logs, err error) plog.Logs {
			var partial consumererror.Logs
			if errors.As(err, &partial) {
				return partial.Data()
			}
			return whole
		},
		begin: report.StartLogsOp,
		end: func(ctx context.Context, items int, err error) {
			report.EndLogsOp(ctx, metadata.Type.String(), items, err)
		},
	}, nil
}

func tracesOutlet(settings receiver.Settings, next consumer.Traces) (outlet[ptrace.Traces], error) {
	report, err := newReport(settings)
	if err != nil {
		return outlet[ptrace.Traces]{}, err
	}
	return outlet[ptrace.Traces]{
		events:  true,
		size:    func(batch ptrace.Traces) size { return size{batch.SpanCount(), roots(batch)} },
		consume: next.ConsumeTraces,
		clone: func(whole ptrace.Traces) ptrace.Traces {
			clone := ptrace.NewTraces()
			whole.CopyTo(clone)
			return clone
		},
		rest: func(whole ptrace.Traces, err error) ptrace.Traces {
			var partial consumererror.Traces
			if errors.As(err, &partial) {
				return partial.Data()
			}
			return whole
		},
		begin: report.StartTracesOp,
		end: func(ctx context.Context, items int, err error) {
			report.EndTracesOp(ctx, metadata.Type.String(), items, err)
		},
	}, nil
}

// roots returns how many calls are in a batch. Their roots may have a parent: a span
// of the application.
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
