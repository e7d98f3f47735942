// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// TestAllInstrumentsProveThemselvesBeforeAnyReports requires that no instrument reports before all have
// tested themselves, also those of other signals and other receivers: it would report their self-tests.
func TestAllInstrumentsProveThemselvesBeforeAnyReports(t *testing.T) {
	receivers := &sharedReceivers{}
	create := func(config *Config, instrument *fake[plog.Logs]) *signalReceiver {
		consumer, err := newLogsConsumer(receivertest.NewNopSettings(metadata.Type), &pipeline{})
		if err != nil {
			t.Fatal(err)
		}
		r := newSignalReceiver(receivers, config, receivertest.NewNopSettings(metadata.Type), consumer,
			func(*sharedReceiver, receiver.Settings) []configuredInstrument[plog.Logs] {
				return []configuredInstrument[plog.Logs]{
					{"only", InstrumentConfig{Enabled: true, CollectionInterval: 1, InitialDelay: 1 << 40}, new(stats.Recorder), instrument},
				}
			})
		r.requireHost = func(string) error { return nil }
		return r
	}
	config := createDefaultConfig().(*Config)
	instruments := []*fake[plog.Logs]{fakeLogs(), fakeLogs(), fakeLogs()}
	all := []*signalReceiver{
		create(config, instruments[0]), create(config, instruments[1]), create(createDefaultConfig().(*Config), instruments[2]),
	}
	for started, r := range all {
		if err := r.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
		for i, instrument := range instruments {
			wantEnabled := 0
			if i <= started {
				wantEnabled = 1
			}
			if starts, enabled := instrument.count("start"), instrument.count("begin"); starts != 1 || enabled != wantEnabled {
				t.Errorf("after %d starts, instrument %d was started %d and enabled %d times, want 1 and %d", started+1, i, starts, enabled, wantEnabled)
			}
		}
	}
	for _, r := range all {
		if err := r.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(receivers.all) > 0 {
		t.Errorf("%d receivers are still there after their shutdown", len(receivers.all))
	}
}
