// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"time"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// ConnectionsConfig is the block "connections". It is about sums of each process; accepts reports how
// individual connections begin and end.
type ConnectionsConfig struct {
	InstrumentConfig `mapstructure:",squash"`

	// Metrics turns individual metrics on and off.
	Metrics ConnectionsMetricsConfig `mapstructure:"metrics"`
}

// ConnectionsMetricsConfig has the metrics of [metadata.MetricsConfig] that connections reports.
type ConnectionsMetricsConfig struct {
	ProcessTCPConnects    metadata.NettapProcessTCPConnectsMetricConfig    `mapstructure:"nettap.process.tcp.connects"`
	ProcessTCPRetransmits metadata.NettapProcessTCPRetransmitsMetricConfig `mapstructure:"nettap.process.tcp.retransmits"`
	ProcessTCPRtt         metadata.NettapProcessTCPRttMetricConfig         `mapstructure:"nettap.process.tcp.rtt"`
}

// defaultConnectionsConfig returns the defaults. The instrument is off, because its programs run at each
// change of a connection's state.
func defaultConnectionsConfig() ConnectionsConfig {
	metrics := metadata.DefaultMetricsConfig()
	c := ConnectionsConfig{
		InstrumentConfig: defaultInstrumentConfig(10 * time.Second),
		Metrics: ConnectionsMetricsConfig{
			ProcessTCPConnects: metrics.NettapProcessTCPConnects, ProcessTCPRetransmits: metrics.NettapProcessTCPRetransmits,
			ProcessTCPRtt: metrics.NettapProcessTCPRtt,
		},
	}
	c.Enabled = false
	return c
}

func (c *ConnectionsConfig) metricsBuilderConfig() metadata.MetricsBuilderConfig {
	return metadata.MetricsBuilderConfig{
		Metrics: metadata.MetricsConfig{
			NettapProcessTCPConnects: c.Metrics.ProcessTCPConnects, NettapProcessTCPRetransmits: c.Metrics.ProcessTCPRetransmits,
			NettapProcessTCPRtt: c.Metrics.ProcessTCPRtt,
		},
		ResourceAttributes: c.ResourceAttributes,
	}
}
