package nettapreceiver

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"

	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

// outlet is where the telemetry of one signal leaves the receiver.
type outlet[T instrument.Telemetry] struct {
	// events is true when an item is reported once; false when it is a point of
	// a series, which the next one repeats.
	events bool

	items   func(T) int
	consume func(context.Context, T) error
	clone   func(T) T
	rest    func(whole T, err error) T // what a consumer that took some has not taken

	// begin and end enclose a delivery for the Collector's own metrics.
	begin func(context.Context) context.Context
	end   func(ctx context.Context, items int, err error)
}

func metricsOutlet(settings receiver.Settings, next consumer.Metrics) (outlet[pmetric.Metrics], error) {
	report, err := newReport(settings)
	if err != nil {
		return outlet[pmetric.Metrics]{}, err
	}
	return outlet[pmetric.Metrics]{
		items:   pmetric.Metrics.DataPointCount,
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
		items:   plog.Logs.LogRecordCount,
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

func newReport(settings receiver.Settings) (*receiverhelper.ObsReport, error) {
	return receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID:             settings.ID,
		LongLivedCtx:           true,
		ReceiverCreateSettings: settings,
	})
}
