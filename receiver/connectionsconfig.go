// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"time"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// ConnectionsConfig is the block "connections". How single connections begin and end is told
// by accepts.
type ConnectionsConfig struct {
	InstrumentConfig `mapstructure:",squash"`

	// Metrics turns single metrics on and off.
	Metrics ConnectionsMetricsConfig `mapstructure:"metrics"`
}

// ConnectionsMetricsConfig is those of [metadata.MetricsConfig] that connections reports, and
// a histogram, which it cannot have.
type ConnectionsMetricsConfig struct {
	ProcessTCPConnects    metadata.NettapProcessTCPConnectsMetricConfig    `mapstructure:"nettap.process.tcp.connects"`
	ProcessTCPRetransmits metadata.NettapProcessTCPRetransmitsMetricConfig `mapstructure:"nettap.process.tcp.retransmits"`

	// ProcessTCPRtt is the smoothed round-trip times of the TCP connections of the process, each when it ends.
	ProcessTCPRtt HistogramConfig `mapstructure:"nettap.process.tcp.rtt"`
}

// HistogramConfig turns a histogram on and off.
type HistogramConfig struct {
	Enabled bool `mapstructure:"enabled"`
}

// defaultConnectionsConfig has the instrument off: it runs at each change of a connection's
// state.
func defaultConnectionsConfig() ConnectionsConfig {
	metrics := metadata.DefaultMetricsConfig()
	c := ConnectionsConfig{
		InstrumentConfig: defaultInstrumentConfig(10 * time.Second),
		Metrics: ConnectionsMetricsConfig{
			ProcessTCPConnects: metrics.NettapProcessTCPConnects, ProcessTCPRetransmits: metrics.NettapProcessTCPRetransmits,
			ProcessTCPRtt: HistogramConfig{Enabled: true},
		},
	}
	c.Enabled = false
	return c
}

func (c *ConnectionsConfig) metricsBuilderConfig() metadata.MetricsBuilderConfig {
	return metadata.MetricsBuilderConfig{
		Metrics: metadata.MetricsConfig{
			NettapProcessTCPConnects: c.Metrics.ProcessTCPConnects, NettapProcessTCPRetransmits: c.Metrics.ProcessTCPRetransmits,
		},
		ResourceAttributes: c.ResourceAttributes,
	}
}
