// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-7756021b/nettap/internal/clock"
)

func TestNewDirectoryReadsCommandLinesOnlyIfShown(t *testing.T) {
	for name, test := range map[string]struct {
		change func(c *Config)
		want   bool
	}{
		"not by default": {change: func(*Config) {}},
		"if one instrument shows them": {
			change: func(c *Config) { c.Accepts.ResourceAttributes.ProcessCommandLine.Enabled = true },
			want:   true,
		},
		"not if that instrument is off": {
			change: func(c *Config) {
				c.Accepts.ResourceAttributes.ProcessCommandLine.Enabled = true
				c.Accepts.Enabled = false
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := createDefaultConfig().(*Config)
			test.change(config)
			if got := newDirectory(config, clock.New()).ReadCommandLines; got != test.want {
				t.Errorf("ReadCommandLines = %v, want %v", got, test.want)
			}
		})
	}
}

func TestWarnWithoutHostID(t *testing.T) {
	for name, test := range map[string]struct {
		enabled bool
		want    int
	}{
		"once, if it is wanted":      {enabled: true, want: 1},
		"never, if it is turned off": {enabled: false, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			config := createDefaultConfig().(*Config)
			config.RootPath = t.TempDir() // it has no etc/machine-id
			for _, instrument := range []*InstrumentConfig{
				&config.Traffic.InstrumentConfig, &config.Drops.InstrumentConfig, &config.Accepts.InstrumentConfig,
				&config.Calls.InstrumentConfig,
			} {
				instrument.ResourceAttributes.HostID.Enabled = test.enabled
			}
			shared := &sharedReceiver{config: config, processes: newDirectory(config, clock.New())}
			core, logs := observer.New(zapcore.WarnLevel)

			shared.warnWithoutHostID(zap.New(core))
			shared.warnWithoutHostID(zap.New(core))
			if got := logs.Len(); got != test.want {
				t.Errorf("%d warnings, want %d", got, test.want)
			}
		})
	}
}
