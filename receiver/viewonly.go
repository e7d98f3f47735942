// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"

	"github.com/seed-7756021b/nettap/internal/instrument"
)

// The signals of pipelines.
const (
	signalMetrics = "metrics"
	signalLogs    = "logs"
	signalTraces  = "traces"
)

func signalOf[T instrument.Telemetry]() string {
	var nothing T
	switch any(nothing).(type) {
	case plog.Logs:
		return signalLogs
	case ptrace.Traces:
		return signalTraces
	default:
		return signalMetrics
	}
}

// newViewOnlyReceiver returns a receiver with the instruments of a signal that has no pipeline.
func newViewOnlyReceiver[T instrument.Telemetry](shared *sharedReceiver, settings receiver.Settings, instruments func(*sharedReceiver, receiver.Settings) []configuredInstrument[T]) *signalReceiver {
	r := &signalReceiver{
		shared: shared, logger: settings.Logger, settings: settings.TelemetrySettings, id: settings.ID,
		signal: signalOf[T](), build: settings.BuildInfo, viewOnly: true,
	}
	for _, configured := range instruments(shared, settings) {
		if _, shown := shared.viewServer.consumers()[configured.name]; shown && configured.config.Enabled {
			r.loops = append(r.loops, newSignalLoop(configured, discard[T](), settings.Logger).withView(shared.viewServer).withLimit(shared.limit))
		}
	}
	return r
}

// discard takes everything and passes it to no one.
func discard[T instrument.Telemetry]() signalConsumer[T] {
	var nothing T
	return signalConsumer[T]{
		events:    isEvents(nothing),
		size:      sizeOf[T],
		consume:   func(context.Context, T) error { return nil },
		clone:     func(batch T) T { return batch },
		remainder: func(batch T, _ error) T { return batch },
		startOp:   func(ctx context.Context) context.Context { return ctx },
		endOp:     func(context.Context, int, error) {},
	}
}

// sizeOf returns how much a batch contains.
func sizeOf[T instrument.Telemetry](batch T) size {
	switch b := any(batch).(type) {
	case ptrace.Traces:
		return size{items: items(batch), events: roots(b)}
	case plog.Logs:
		return size{items: items(batch), events: items(batch)}
	default:
		return size{items: items(batch)}
	}
}
