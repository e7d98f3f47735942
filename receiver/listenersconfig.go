// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"time"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// ListenersConfig is the block "listeners". It is about accept queues; accepts reports which
// sockets listen.
type ListenersConfig struct {
	InstrumentConfig `mapstructure:",squash"`

	// Metrics turns individual metrics on and off.
	Metrics ListenersMetricsConfig `mapstructure:"metrics"`
}

// ListenersMetricsConfig has the metrics of [metadata.MetricsConfig] that listeners reports.
type ListenersMetricsConfig struct {
	ListenerQueueLength metadata.NettapListenerQueueLengthMetricConfig `mapstructure:"nettap.listener.queue.length"`
	ListenerQueueLimit  metadata.NettapListenerQueueLimitMetricConfig  `mapstructure:"nettap.listener.queue.limit"`
}

// defaultListenersConfig returns the defaults. The instrument is off, because it makes two series
// for each listener of the machine.
func defaultListenersConfig() ListenersConfig {
	metrics := metadata.DefaultMetricsConfig()
	c := ListenersConfig{
		InstrumentConfig: defaultInstrumentConfig(10 * time.Second),
		Metrics:          ListenersMetricsConfig{ListenerQueueLength: metrics.NettapListenerQueueLength, ListenerQueueLimit: metrics.NettapListenerQueueLimit},
	}
	c.Enabled = false
	return c
}

func (c *ListenersConfig) metricsBuilderConfig() metadata.MetricsBuilderConfig {
	return metadata.MetricsBuilderConfig{
		Metrics: metadata.MetricsConfig{
			NettapListenerQueueLength: c.Metrics.ListenerQueueLength, NettapListenerQueueLimit: c.Metrics.ListenerQueueLimit,
		},
		ResourceAttributes: c.ResourceAttributes,
	}
}
