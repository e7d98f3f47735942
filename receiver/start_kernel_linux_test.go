// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"net"
	"os"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

// TestKernelInstrumentsRunWithoutContextsThatCannotLoad starts all signals although the programs of trace
// contexts cannot be attached.
func TestKernelInstrumentsRunWithoutContextsThatCannotLoad(t *testing.T) {
	kerneltest.Require(t)
	config := fewCalls()
	config.AvoidHooks = []string{"tp_btf/sched_process_fork"}
	signals := allSignals(t, config)
	startAll(t, signals)
	defer shutDownAll(t, signals)
	running := map[string]bool{}
	for _, signal := range signals {
		for _, loop := range signal.(*signalReceiver).running {
			running[loop.namedStats().name] = true
		}
	}
	for _, name := range []string{"drops", "accepts", "calls"} {
		if !running[name] {
			t.Errorf("%s does not run", name)
		}
	}
	hooks, ok := signals[0].(*signalReceiver).shared.contexts.Hooks()
	if !ok || len(hooks) != 1 || hooks[0].Name != "none" || !strings.Contains(hooks[0].Refused[0], "avoid_hooks") {
		t.Errorf("the hooks of trace contexts are %+v, want one that says why there is none", hooks)
	}
}

// TestKernelASecondStartAfterAFailedOneIsClean lets the last signal fail, because the view's endpoint is
// in use, and starts all signals again when it is free.
func TestKernelASecondStartAfterAFailedOneIsClean(t *testing.T) {
	kerneltest.Require(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := fewCalls()
	config.View.NetAddr.Endpoint = taken.Addr().String()
	telemetry := componenttest.NewTelemetry()
	defer telemetry.Shutdown(t.Context()) //nolint:errcheck // an error would only affect the test's own metrics
	signals := signalsWith(t, config, telemetry)

	failed := 0
	for _, signal := range signals {
		if err := signal.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			failed++
		}
	}
	if failed != 1 {
		t.Fatalf("%d signals did not start, want the one that opens the view", failed)
	}
	shutDownAll(t, signals)
	if left := kerneltest.ObjectsOf(t, os.Getpid()); len(left) > 0 {
		t.Errorf("the failed start has left %v", left)
	}

	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	startAll(t, signals)
	defer shutDownAll(t, signals)
	active, err := telemetry.GetMetric("otelcol_nettap_hook_active")
	if err != nil {
		t.Fatal(err)
	}
	published := instrumentsOf(active)
	for _, name := range []string{"drops", "accepts", "calls", "cgroups", "trace_context"} {
		if !published[name] {
			t.Errorf("the hooks of %s are not published after the second start: %v are", name, published)
		}
	}
	if _, err := telemetry.GetMetric("otelcol_nettap_trace_context_found"); err != nil {
		hooks, ok := signals[0].(*signalReceiver).shared.contexts.Hooks()
		t.Errorf("what contexts found is not published after the second start: %v; hooks %v: %+v", err, ok, hooks)
	}
}

// instrumentsOf returns the instruments of which a metric has points.
func instrumentsOf(metric metricdata.Metrics) map[string]bool {
	all := map[string]bool{}
	for _, point := range metric.Data.(metricdata.Gauge[int64]).DataPoints {
		if name, ok := point.Attributes.Value("instrument"); ok {
			all[name.AsString()] = true
		}
	}
	return all
}

// signalsWith is [allSignals] that publish their statistics to telemetry.
func signalsWith(t *testing.T, config *Config, telemetry *componenttest.Telemetry) []component.Component {
	t.Helper()
	settings := receivertest.NewNopSettings(metadata.Type)
	settings.TelemetrySettings = telemetry.NewTelemetrySettings()
	return signalsOf(t, config, settings)
}

func startAll(t *testing.T, signals []component.Component) {
	t.Helper()
	for _, signal := range signals {
		if err := signal.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
	}
}

func shutDownAll(t *testing.T, signals []component.Component) {
	t.Helper()
	for _, signal := range signals {
		if err := signal.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
