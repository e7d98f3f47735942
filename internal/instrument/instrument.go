// SPDX-License-Identifier: Apache-2.0

// Package instrument defines the interface of all instruments: how one is started, enabled, read
// and shut down.
package instrument

import (
	"context"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Telemetry is what an instrument can report: one signal, chosen by its type.
type Telemetry interface {
	pmetric.Metrics | plog.Logs | ptrace.Traces
}

// Instrument observes one activity of the kernel and reports it as one signal.
//
// The caller calls Start once, then Enable, then Collect from one goroutine, then Shutdown. After
// that the instrument may be started again, and counts from zero.
type Instrument[T Telemetry] interface {
	// Start loads the BPF programs, attaches them and checks that they run, either all or
	// none. They count nothing yet, so that no instrument reports the self-test of another
	// one. An error matching [kernel.ErrUnsupported] means that this kernel cannot run them.
	Start(ctx context.Context) error

	// Enable lets the programs count. What happens from now on is reported.
	Enable() error

	// Collect returns what was observed since the previous Collect, and never waits for more.
	// The result is valid even if err is not nil.
	Collect(ctx context.Context) (T, error)

	// Shutdown detaches the programs and frees them. It may be called without
	// Start and more than once.
	Shutdown(ctx context.Context) error
}

// Deliverer is an instrument that has to know whether its report was delivered: the end of a
// series is repeated with every Collect until a consumer has taken it.
type Deliverer interface {
	// Delivered tells that a consumer has taken what the last Collect returned.
	Delivered()
}

// Peeker is an instrument that can be read between two Collects without changing what these
// return: the same points with the same start times and ends.
type Peeker[T Telemetry] interface {
	// Peek returns the present state. The result is valid even if err is not nil. It is not
	// called at the same time as Collect or Delivered.
	Peek(ctx context.Context) (T, error)
}
