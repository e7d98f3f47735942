// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

// newDirectory returns the directory that the instruments of a configuration share.
func newDirectory(config *Config, clock *clock.Clock) *process.Directory {
	directory := process.NewDirectory(config.RootPath, clock)
	directory.ReadCommandLines = config.shows(func(a metadata.ResourceAttributesConfig) bool { return a.ProcessCommandLine.Enabled })
	return directory
}

// warnWithoutHostID logs, once, why resources have no host.id, if they should have it.
func (s *sharedReceiver) warnWithoutHostID(logger *zap.Logger) {
	s.hostIDWarned.Do(func() {
		wanted := s.config.shows(func(a metadata.ResourceAttributesConfig) bool { return a.HostID.Enabled })
		if _, err := s.processes.HostID(); err != nil && wanted {
			logger.Warn("resources are without host.id", zap.Error(err))
		}
	})
}

// shows reports whether the resources of an enabled instrument have an attribute.
func (c *Config) shows(attribute func(metadata.ResourceAttributesConfig) bool) bool {
	for _, instrument := range []InstrumentConfig{
		c.Traffic.InstrumentConfig, c.Drops.InstrumentConfig, c.Accepts.InstrumentConfig, c.Calls.InstrumentConfig,
	} {
		if instrument.Enabled && attribute(instrument.ResourceAttributes) {
			return true
		}
	}
	return false
}
