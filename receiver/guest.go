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

// newGuest returns the instruments of a signal that no pipeline has.
func newGuest[T instrument.Telemetry](h *house, settings receiver.Settings, tasks func(*house, receiver.Settings) []task[T]) *nettap {
	n := &nettap{
		house: h, logger: settings.Logger, settings: settings.TelemetrySettings, id: settings.ID,
		signal: signalOf[T](), build: settings.BuildInfo, alone: true,
	}
	for _, task := range tasks(h, settings) {
		if task.config.Enabled {
			n.workers = append(n.workers, newLoop(task, nowhere[T](), settings.Logger).shownBy(h.viewing).within(h.limit))
		}
	}
	return n
}

// nowhere takes all, and hands it to nobody.
func nowhere[T instrument.Telemetry]() outlet[T] {
	var nothing T
	return outlet[T]{
		events:  isEvents(nothing),
		size:    sizeOf[T],
		consume: func(context.Context, T) error { return nil },
		clone:   func(batch T) T { return batch },
		rest:    func(batch T, _ error) T { return batch },
		begin:   func(ctx context.Context) context.Context { return ctx },
		end:     func(context.Context, int, error) {},
	}
}

// sizeOf returns how much a batch holds.
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
