// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// fakeHost is a Collector that records the status that its receiver reports.
type fakeHost struct {
	component.Host
	mu       sync.Mutex
	reported []componentstatus.Status
}

func (h *fakeHost) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reported = append(h.reported, event.Status())
}

func (h *fakeHost) statuses() []componentstatus.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.reported)
}

// twoInstruments returns a receiver of the signal logs with these instruments. It runs on any machine.
func twoInstruments(t *testing.T, onUnsupported string, first, second *fake[plog.Logs]) *signalReceiver {
	t.Helper()
	config := createDefaultConfig().(*Config)
	config.OnUnsupported = onUnsupported
	consumer, err := newLogsConsumer(receivertest.NewNopSettings(metadata.Type), &pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	r := newSignalReceiver(&sharedReceivers{}, config, receivertest.NewNopSettings(metadata.Type), consumer,
		func(*sharedReceiver, receiver.Settings) []configuredInstrument[plog.Logs] {
			return []configuredInstrument[plog.Logs]{
				{"first", InstrumentConfig{Enabled: true, CollectionInterval: 1, InitialDelay: 1 << 40}, new(stats.Recorder), first},
				{"second", InstrumentConfig{Enabled: true, CollectionInterval: 1, InitialDelay: 1 << 40}, new(stats.Recorder), second},
				{"third", InstrumentConfig{Enabled: false}, new(stats.Recorder), nil},
			}
		})
	r.requireHost = func(string) error { return nil }
	return r
}

// allSignals returns one receiver for each of metrics, logs and traces, which share a
// configuration.
func allSignals(t *testing.T, config *Config) []component.Component {
	t.Helper()
	return signalsOf(t, config, receivertest.NewNopSettings(metadata.Type))
}

func signalsOf(t *testing.T, config *Config, settings receiver.Settings) []component.Component {
	t.Helper()
	factory := NewFactory()
	metrics, err := factory.CreateMetrics(t.Context(), settings, config, consumertest.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	logs, err := factory.CreateLogs(t.Context(), settings, config, consumertest.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	traces, err := factory.CreateTraces(t.Context(), settings, config, consumertest.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return []component.Component{metrics, logs, traces}
}

func TestReceiverStartsAndStopsEachInstrumentOnce(t *testing.T) {
	first, second := fakeLogs(), fakeLogs()
	r := twoInstruments(t, onUnsupportedError, first, second)
	h := &fakeHost{Host: componenttest.NewNopHost()}
	for range 2 { // it may be started again
		if err := r.Start(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		for range 2 { // and shut down more than once
			if err := r.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{"start", "begin", "collect", "shutdown", "start", "begin", "collect", "shutdown"}
	if diff := cmp.Diff([][]string{want, want}, [][]string{first.log, second.log}); diff != "" {
		t.Errorf("deeds differ (-want +got):\n%s", diff)
	}
	if len(h.reported) != 0 {
		t.Errorf("reported status %v, want none", h.reported)
	}
}

func TestReceiverWithAnInstrumentThatCannotRun(t *testing.T) {
	noHook := errors.New("no such hook")
	for name, test := range map[string]struct {
		onUnsupported string
		hostErr       error
		beginErr      error // the error of Enable, for cases in which Start has none
		wantErr       string
		wantFirst     []string // what is called until it is shut down
		wantSecond    []string
		wantReported  []componentstatus.Status
	}{
		"error: Start fails, and what ran is shut down": {
			onUnsupported: onUnsupportedError,
			wantErr:       "start second: no such hook",
			wantFirst:     []string{"start", "shutdown"},
			wantSecond:    []string{"start"},
		},
		"warn: the other one runs, and the status says it": {
			onUnsupported: onUnsupportedWarn,
			wantFirst:     []string{"start", "begin", "collect", "shutdown"},
			wantSecond:    []string{"start"},
			wantReported:  []componentstatus.Status{componentstatus.StatusRecoverableError},
		},
		"error: one cannot be enabled": {
			onUnsupported: onUnsupportedError,
			beginErr:      errors.New("no epoch"),
			wantErr:       "start second: no epoch",
			wantFirst:     []string{"start", "begin", "collect", "shutdown"},
			wantSecond:    []string{"start", "begin", "shutdown"},
		},
		"warn: one cannot be enabled": {
			onUnsupported: onUnsupportedWarn,
			beginErr:      errors.New("no epoch"),
			wantFirst:     []string{"start", "begin", "collect", "shutdown"},
			wantSecond:    []string{"start", "begin", "shutdown"},
			wantReported:  []componentstatus.Status{componentstatus.StatusRecoverableError},
		},
		"error: on a machine that no instrument can run on": {
			onUnsupported: onUnsupportedError,
			hostErr:       errors.New("no BTF"),
			wantErr:       "no BTF",
		},
		"warn: on a machine that no instrument can run on": {
			onUnsupported: onUnsupportedWarn,
			hostErr:       errors.New("no BTF"),
			wantReported:  []componentstatus.Status{componentstatus.StatusPermanentError},
		},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := fakeLogs(), fakeLogs()
			second.startErr, second.enableErr = noHook, test.beginErr
			if test.beginErr != nil {
				second.startErr = nil
			}
			r := twoInstruments(t, test.onUnsupported, first, second)
			r.requireHost = func(string) error { return test.hostErr }
			h := &fakeHost{Host: componenttest.NewNopHost()}

			got := ""
			if err := r.Start(t.Context(), h); err != nil {
				got = err.Error()
			}
			if got != test.wantErr {
				t.Errorf("Start: %q, want %q", got, test.wantErr)
			}
			if err := r.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if diff := cmp.Diff([][]string{test.wantFirst, test.wantSecond}, [][]string{first.log, second.log}); diff != "" {
				t.Errorf("deeds differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wantReported, h.statuses()); diff != "" {
				t.Errorf("reported status differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReceiverIsOneInstanceAConfiguration(t *testing.T) {
	receivers := &sharedReceivers{}
	config, other := createDefaultConfig().(*Config), createDefaultConfig().(*Config)
	settings := receivertest.NewNopSettings(metadata.Type)
	create := func(config *Config) (metrics, logs, traces *signalReceiver) {
		t.Helper()
		m, err := receivers.createMetrics(t.Context(), settings, config, &pipeline{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := receivers.createLogs(t.Context(), settings, config, &pipeline{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := receivers.createTraces(t.Context(), settings, config, &pipeline{})
		if err != nil {
			t.Fatal(err)
		}
		return m.(*signalReceiver), l.(*signalReceiver), s.(*signalReceiver)
	}
	metrics, logs, traces := create(config)
	otherMetrics, _, _ := create(other)
	if metrics.shared != logs.shared || metrics.shared != traces.shared {
		t.Error("the signals of one configuration are several instances")
	}
	if metrics.shared == otherMetrics.shared {
		t.Error("two configurations are one instance")
	}

	shutDown := func(r *signalReceiver, wantReceivers int) {
		t.Helper()
		if err := r.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := len(receivers.byConfig); got != wantReceivers {
			t.Errorf("%d instances remain, want %d", got, wantReceivers)
		}
	}
	shutDown(metrics, 2)
	shutDown(metrics, 2) // a second shutdown of the same signal
	shutDown(logs, 2)
	shutDown(traces, 1)
	if again, _, _ := create(config); again.shared == metrics.shared {
		t.Error("the instance outlived its shutdown")
	}
}
