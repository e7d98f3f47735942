// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.uber.org/goleak"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func TestKernelShutdownAndRestartLeaveNothing(t *testing.T) {
	kerneltest.Require(t)
	// The first instrument opens what a process keeps until its end, such as its poller's descriptors.
	startAndShutDown(t, func(config *Config) {
		config.Traffic.Enabled, config.Drops.Enabled, config.Calls.Enabled = false, false, false
	})
	before := openFiles(t)

	times := 2
	if testing.Short() {
		times = 1
	}
	for range times {
		objects := startAndShutDown(t, func(config *Config) { config.View.NetAddr.Endpoint = "127.0.0.1:0" })
		if len(objects["map"]) < 4 || len(objects["prog"]) < 4 || len(objects["link"]) < 4 {
			t.Errorf("while it ran there were %v, want several of each kind", objects)
		}
		// cilium/ebpf maps the memory of .bss and .data into this process, and only Go's garbage collector
		// unmaps it, which frees the maps.
		objects.AwaitGone(t, runtime.GC)
	}

	if after := openFiles(t); after > before { // what the first one left to the garbage collector may be gone
		t.Errorf("%d descriptors are open, and were %d before", after, before)
	}
	goleak.VerifyNone(t)
}

// startAndShutDown starts a receiver of all signals, shuts it down, and returns the BPF objects that it
// had.
func startAndShutDown(t *testing.T, change func(*Config)) kerneltest.Objects {
	t.Helper()
	config := fewCalls()
	change(config)
	signals := allSignals(t, config)
	for _, signal := range signals {
		if err := signal.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
	}
	objects := kerneltest.ObjectsOf(t, os.Getpid())
	for _, signal := range signals {
		if err := signal.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return objects
}

// fewCalls returns the default configuration, without instruments that this kernel does not support and
// with few functions.
func fewCalls() *Config {
	config := createDefaultConfig().(*Config)
	if errors.Is(kernel.ProbeSocketStorage(), kernel.ErrUnsupported) {
		config.Traffic.Enabled = false // it needs Linux 5.12
	}
	// If each function needs a program of its own, loading all of them takes a minute on an emulated machine.
	config.Calls.Functions = []string{"__sys_s*"}
	return config
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
