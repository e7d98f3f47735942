package main

import (
	"context"
	"errors"
	"fmt"
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
	hooks   map[string]string // in use, by their job
}

// startWatching is start with all functions, but where each has a program of its own:
// there it is those that the load goes through, or an emulated machine takes minutes.
func startWatching(ctx context.Context, name string, avoid []string) (*running, error) {
	var functions []string
	if name == "calls" || name == measure.All {
		few, err := fewFunctions(avoid)
		if err != nil {
			return nil, err
		}
		functions = few
	}
	r, err := start(ctx, name, avoid, functions)
	if err != nil || functions == nil || r.hooks[jobs["calls"]] == onEach {
		return r, err
	}
	if err := r.stop(ctx); err != nil {
		return nil, err
	}
	return start(ctx, name, avoid, nil)
}

// start starts a receiver with the defaults, but for those instruments that the case
// leaves out, the hooks to avoid, and if there are any the functions that calls is to watch.
func start(ctx context.Context, name string, avoid, functions []string) (*running, error) {
	factory := nettapreceiver.NewFactory()
	config := factory.CreateDefaultConfig().(*nettapreceiver.Config)
	config.AvoidHooks = avoid
	for instrument, enabled := range map[string]*bool{
		"traffic": &config.Traffic.Enabled, "drops": &config.Drops.Enabled, "accepts": &config.Accepts.Enabled, "calls": &config.Calls.Enabled,
	} {
		*enabled = name == instrument || name == measure.All
	}
	if len(functions) > 0 {
		config.Calls.Functions = functions
	}
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
	for _, entry := range logs.All() { // what the receiver says of itself to anyone
		hooks, _ := entry.ContextMap()["hooks"].([]any)
		for _, hook := range hooks {
			if job, name, ok := strings.Cut(fmt.Sprint(hook), " by "); ok {
				r.hooks[job] = name
			}
		}
	}
	return r, nil
}

func (r *running) stop(ctx context.Context) error {
	var errs error
	for _, signal := range r.signals {
		errs = errors.Join(errs, signal.Shutdown(ctx))
	}
	return errs
}
