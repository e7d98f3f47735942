//go:build !linux

package nettapreceiver

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// requireHost fails, so that no instrument of the tasks below is ever started.
func requireHost(string) error {
	return fmt.Errorf("nettap runs on Linux only, and this is %s: set on_unsupported: warn to run the rest without it", runtime.GOOS)
}

func programTime(func()) (ran, during time.Duration, err error) { return 0, 0, errors.ErrUnsupported }

func threadTime() time.Duration { return 0 }

func newContexts(*Config, *zap.Logger, *limit) *tracecontext.Contexts { return nil }

func metricsTasks(h *house, _ receiver.Settings) []task[pmetric.Metrics] {
	return []task[pmetric.Metrics]{
		{"traffic", h.config.Traffic.InstrumentConfig, new(books.Books), nil},
		{"drops", h.config.Drops.InstrumentConfig, new(books.Books), nil},
	}
}

func logsTasks(h *house, _ receiver.Settings) []task[plog.Logs] {
	return []task[plog.Logs]{
		{"accepts", h.config.Accepts.InstrumentConfig, new(books.Books), nil},
	}
}

func tracesTasks(h *house, _ receiver.Settings) []task[ptrace.Traces] {
	return []task[ptrace.Traces]{
		{"calls", h.config.Calls.InstrumentConfig, new(books.Books), nil},
	}
}
