// SPDX-License-Identifier: Apache-2.0

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

	"github.com/seed-7756021b/nettap/internal/places"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// requireHost returns an error, so that none of the instruments below is ever started.
func requireHost(string) error {
	return fmt.Errorf("nettap runs on Linux only, and this is %s: set on_unsupported: warn to run the rest without it", runtime.GOOS)
}

func programTime(func()) (ran, during time.Duration, err error) { return 0, 0, errors.ErrUnsupported }

func threadTime() time.Duration { return 0 }

func newPlaces(*Config) *places.Places { return nil }

func newContexts(*Config, *zap.Logger, *limit, *places.Places) *tracecontext.Contexts { return nil }

type sharedCalls struct{}

func metricsInstruments(shared *sharedReceiver, _ receiver.Settings) []configuredInstrument[pmetric.Metrics] {
	return []configuredInstrument[pmetric.Metrics]{
		{"traffic", shared.config.Traffic.InstrumentConfig, new(stats.Recorder), nil},
		{"drops", shared.config.Drops.InstrumentConfig, new(stats.Recorder), nil},
		{"listeners", shared.config.Listeners.InstrumentConfig, new(stats.Recorder), nil},
		{"connections", shared.config.Connections.InstrumentConfig, new(stats.Recorder), nil},
	}
}

func logsInstruments(shared *sharedReceiver, _ receiver.Settings) []configuredInstrument[plog.Logs] {
	return []configuredInstrument[plog.Logs]{
		{"accepts", shared.config.Accepts.InstrumentConfig, new(stats.Recorder), nil},
	}
}

func tracesInstruments(shared *sharedReceiver, _ receiver.Settings) []configuredInstrument[ptrace.Traces] {
	return []configuredInstrument[ptrace.Traces]{
		{"calls", shared.config.Calls.InstrumentConfig, new(stats.Recorder), nil},
	}
}
