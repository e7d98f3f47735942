//go:build linux

package nettapreceiver

import (
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

func requireHost(rootPath string) error { return kernel.RequireHost(rootPath) }

// metricsTasks returns the instruments whose signal is metrics.
func metricsTasks(h *house, settings receiver.Settings) []task[pmetric.Metrics] {
	return nil
}

// logsTasks returns the instruments whose signal is logs.
func logsTasks(h *house, settings receiver.Settings) []task[plog.Logs] {
	return nil
}
