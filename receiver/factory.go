package nettapreceiver

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// NewFactory returns the factory of the nettap receiver. It creates receivers on
// every operating system, so that a configuration can be checked on any; their
// instruments start on Linux only.
func NewFactory() receiver.Factory {
	h := &houses{}
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithMetrics(h.createMetrics, metadata.MetricsStability),
		receiver.WithLogs(h.createLogs, metadata.LogsStability),
		receiver.WithTraces(h.createTraces, metadata.TracesStability),
	)
}

func (h *houses) createMetrics(
	_ context.Context, settings receiver.Settings, config component.Config, next consumer.Metrics,
) (receiver.Metrics, error) {
	outlet, err := metricsOutlet(settings, next)
	if err != nil {
		return nil, err
	}
	return newNettap(h, config.(*Config), settings, outlet, metricsTasks), nil
}

func (h *houses) createLogs(
	_ context.Context, settings receiver.Settings, config component.Config, next consumer.Logs,
) (receiver.Logs, error) {
	outlet, err := logsOutlet(settings, next)
	if err != nil {
		return nil, err
	}
	return newNettap(h, config.(*Config), settings, outlet, logsTasks), nil
}

func (h *houses) createTraces(
	_ context.Context, settings receiver.Settings, config component.Config, next consumer.Traces,
) (receiver.Traces, error) {
	outlet, err := tracesOutlet(settings, next)
	if err != nil {
		return nil, err
	}
	return newNettap(h, config.(*Config), settings, outlet, tracesTasks), nil
}
