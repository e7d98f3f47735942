// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// NewFactory returns the factory of the nettap receiver. It creates receivers on every operating
// system, so that a configuration can be checked anywhere. Their instruments start only on Linux.
func NewFactory() receiver.Factory {
	receivers := &sharedReceivers{}
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithMetrics(receivers.createMetrics, metadata.MetricsStability),
		receiver.WithLogs(receivers.createLogs, metadata.LogsStability),
		receiver.WithTraces(receivers.createTraces, metadata.TracesStability),
	)
}

func (s *sharedReceivers) createMetrics(
	_ context.Context, settings receiver.Settings, config component.Config, next consumer.Metrics,
) (receiver.Metrics, error) {
	consumer, err := newMetricsConsumer(settings, next)
	if err != nil {
		return nil, err
	}
	return newSignalReceiver(s, config.(*Config), settings, consumer, metricsInstruments), nil
}

func (s *sharedReceivers) createLogs(
	_ context.Context, settings receiver.Settings, config component.Config, next consumer.Logs,
) (receiver.Logs, error) {
	consumer, err := newLogsConsumer(settings, next)
	if err != nil {
		return nil, err
	}
	return newSignalReceiver(s, config.(*Config), settings, consumer, logsInstruments), nil
}

func (s *sharedReceivers) createTraces(
	_ context.Context, settings receiver.Settings, config component.Config, next consumer.Traces,
) (receiver.Traces, error) {
	consumer, err := newTracesConsumer(settings, next)
	if err != nil {
		return nil, err
	}
	return newSignalReceiver(s, config.(*Config), settings, consumer, tracesInstruments), nil
}
