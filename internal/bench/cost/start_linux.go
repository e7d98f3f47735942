// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
	"github.com/seed-7756021b/nettap/internal/metadata"
	nettapreceiver "github.com/seed-7756021b/nettap/receiver"
)

// running is a receiver with some of its instruments.
type running struct {
	signals []component.Component
	hooks   map[string]string // the hooks in use, by their job
}

// start starts a receiver with the default configuration, except for the limit, the instruments
// that are not part of the case, and the hooks to avoid, by which each rung is forced.
func start(ctx context.Context, name string, avoid []string) (*running, error) {
	factory := nettapreceiver.NewFactory()
	config := factory.CreateDefaultConfig().(*nettapreceiver.Config)
	config.AvoidHooks = avoid
	config.MaxCPU = 0 // a limit would reduce what is measured
	for instrument, enabled := range map[string]*bool{
		"traffic": &config.Traffic.Enabled, "drops": &config.Drops.Enabled, "accepts": &config.Accepts.Enabled, "calls": &config.Calls.Enabled,
	} {
		*enabled = name == instrument || name == measure.All || name == measure.Everything
	}
	request(config, name)
	core, logs := observer.New(zapcore.InfoLevel)
	settings := receivertest.NewNopSettings(metadata.Type)
	settings.Logger = zap.New(core)
	sink := consumertest.NewNop()
	metrics, err := factory.CreateMetrics(ctx, settings, config, sink)
	if err != nil {
		return nil, err
	}
	records, err := factory.CreateLogs(ctx, settings, config, sink)
	if err != nil {
		return nil, err
	}
	traces, err := factory.CreateTraces(ctx, settings, config, sink)
	if err != nil {
		return nil, err
	}
	r := &running{signals: []component.Component{metrics, records, traces}, hooks: map[string]string{}}
	for _, signal := range r.signals {
		if err := signal.Start(ctx, componenttest.NewNopHost()); err != nil {
			return nil, errors.Join(err, r.stop(ctx))
		}
	}
	if name == measure.TrafficBeyond {
		if err := takePlace(); err != nil {
			return nil, errors.Join(err, r.stop(ctx))
		}
	}
	for _, entry := range logs.All() { // which the receiver logs for its users
		hooks, _ := entry.ContextMap()["hooks"].([]any)
		for _, hook := range hooks {
			if job, name, ok := strings.Cut(fmt.Sprint(hook), " by "); ok {
				r.hooks[job] = name
			}
		}
	}
	return r, nil
}

// request turns on what a case has of what is off by default.
func request(config *nettapreceiver.Config, name string) {
	if name == measure.AcceptsEverything || name == measure.Everything {
		config.Accepts.Enabled = true
		config.Accepts.Events.NettapConnectionClosed.Enabled = true
		config.Accepts.Policy.Expect = []nettapreceiver.ExpectConfig{{Ports: []int{22}, Users: []int{0}}}
	}
	if name == measure.CallsWithoutWaits {
		config.Calls.Enabled, config.Calls.Waits = true, false
	}
	if name == measure.TrafficBeyond {
		config.Traffic.Enabled, config.Traffic.MaxProcesses = true, 1
	}
	config.Connections.Enabled = name == measure.Connections || name == measure.Everything
}

// takePlace lets this process have the only place for a process, if no other has it yet, so that the
// load is beyond.
func takePlace() error {
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, err = socket.WriteTo([]byte{0}, socket.LocalAddr())
	return errors.Join(err, socket.Close())
}

func (r *running) stop(ctx context.Context) error {
	var errs error
	for _, signal := range r.signals {
		errs = errors.Join(errs, signal.Shutdown(ctx))
	}
	return errs
}
