// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package nettapreceiver

import (
	"runtime"
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"
)

func TestReceiverRunsOnLinuxOnly(t *testing.T) {
	refusal := "nettap runs on Linux only, and this is " + runtime.GOOS + ": set on_unsupported: warn to run the rest without it"
	for onUnsupported, want := range map[string]string{onUnsupportedError: refusal, onUnsupportedWarn: ""} {
		config := createDefaultConfig().(*Config)
		config.OnUnsupported = onUnsupported
		for _, signal := range allSignals(t, config) {
			got := ""
			if err := signal.Start(t.Context(), componenttest.NewNopHost()); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("Start with on_unsupported: %s: %q, want %q", onUnsupported, got, want)
			}
			if err := signal.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
		}
	}
}
