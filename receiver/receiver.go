// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// signalReceiver is the receiver in the pipelines of one signal: the instruments of that signal,
// and what it shares with the receivers of the other signals of its configuration.
type signalReceiver struct {
	receivers *sharedReceivers
	shared    *sharedReceiver
	logger    *zap.Logger
	settings  component.TelemetrySettings
	id        component.ID
	loops     []loop // of the enabled instruments
	running   []loop
	loaded    bool  // the loops were started, as far as possible
	loadError error // why the other loops were not
	telemetry *metadata.TelemetryBuilder
	failed    map[string]error // instruments that could not start, by name
	status    status
	released  bool
	limited   bool // it counts for the shared limit

	signal   string
	build    component.BuildInfo
	viewOnly bool // it runs for the view, and is in no pipeline

	requireHost func(rootPath string) error
}

// loop is a [signalLoop] of any signal.
type loop interface {
	Start(ctx context.Context) error
	Enable() error
	Shutdown(ctx context.Context) error
	namedStats() namedStats
	interval() time.Duration
	refreshView(ctx context.Context)
	lastReading() reading
}

func newSignalReceiver[T instrument.Telemetry](
	receivers *sharedReceivers, config *Config, settings receiver.Settings, consumer signalConsumer[T], instruments func(*sharedReceiver, receiver.Settings) []configuredInstrument[T],
) *signalReceiver {
	r := &signalReceiver{
		receivers: receivers,
		shared:    receivers.acquire(config, settings.Logger),
		logger:    settings.Logger,
		settings:  settings.TelemetrySettings,
		id:        settings.ID,
		signal:    signalOf[T](),
		build:     settings.BuildInfo,

		requireHost: requireHost,
	}
	for _, configured := range instruments(r.shared, settings) {
		if configured.config.Enabled {
			r.loops = append(r.loops, newSignalLoop(configured, consumer, settings.Logger).withView(r.shared.viewServer).withLimit(r.shared.limit).withStatus(&r.status))
		}
	}
	r.shared.viewServer.expect(r)
	receivers.add(r)
	return r
}

// Start implements [component.Component]. Unless on_unsupported is warn, it starts either all
// instruments or none.
func (r *signalReceiver) Start(ctx context.Context, host component.Host) error {
	if err := r.startInstruments(ctx, host); err != nil {
		return err
	}
	if err := r.shared.viewServer.open(ctx, r, host); err != nil {
		if r.failsStart() {
			return errors.Join(err, r.Shutdown(ctx))
		}
		r.logger.Warn("the view is left off, since on_unsupported is warn", zap.Error(err))
	}
	return nil
}

func (r *signalReceiver) startInstruments(ctx context.Context, host component.Host) error {
	if len(r.loops) == 0 {
		r.logger.Warn("no instrument of this signal is enabled")
		return nil
	}
	r.status.open(host)
	off := r.startLoops(ctx)
	if off != nil && r.failsStart() {
		return errors.Join(off, r.stopLoops(ctx))
	}
	if off != nil {
		r.logger.Warn("left off, since on_unsupported is warn", zap.Error(off))
		r.status.leaveOff(off, len(r.running) > 0)
	}
	r.shared.warnWithoutHostID(r.logger)
	for _, loop := range r.running {
		loop.namedStats().log(r.logger)
	}
	var err error
	if r.telemetry, err = registerTelemetry(r.settings, r.id, r.statsSources(), r.contextsToReport(), r.limitToReport()); err != nil {
		return errors.Join(err, r.stopLoops(ctx))
	}
	return nil
}

// statsSources returns the sources of statistics to publish: the loops, and in one of the signals
// the watch of cgroups.
func (r *signalReceiver) statsSources() []statsSource {
	var all []statsSource
	for _, loop := range r.running {
		all = append(all, loop)
	}
	watch := sharedStats{name: "cgroups", recorder: r.shared.cgroupsStats}
	started := len(watch.namedStats().totals.Hooks) > 0
	if started && r.shared.cgroupsReported.take(r) {
		watch.namedStats().log(r.logger)
		all = append(all, watch)
	}
	return all
}

// contextsToReport returns the shared contexts to one of the signals, and nil to the others.
func (r *signalReceiver) contextsToReport() *tracecontext.Contexts {
	if _, running := r.shared.contexts.Hooks(); !running || !r.shared.contextsReported.take(r) {
		return nil
	}
	contextsStats(r.shared.contexts).log(r.logger)
	return r.shared.contexts
}

// limitToReport returns the shared limit to one of the signals, and nil to the others.
func (r *signalReceiver) limitToReport() *limit {
	if limit := r.shared.limit; limit != nil && r.limited && limit.reported.take(r) {
		return limit
	}
	return nil
}

// releaseReports gives up what r reports for all signals, so that the next start may assign it to
// another one.
func (r *signalReceiver) releaseReports() {
	r.shared.cgroupsReported.release(r)
	r.shared.contextsReported.release(r)
	if r.shared.limit != nil {
		r.shared.limit.reported.release(r)
	}
}

func (r *signalReceiver) failsStart() bool { return r.shared.config.OnUnsupported != onUnsupportedWarn }

// startLoops starts all loops that it can, or those before the first that it cannot, and returns
// why the others did not start. No loop is enabled before all instruments have tested themselves,
// so that none reports the self-test of another one.
func (r *signalReceiver) startLoops(ctx context.Context) error {
	defer kernel.Keep()()
	r.receivers.loadAll(ctx)
	r.load(ctx)
	if r.loadError != nil && r.failsStart() {
		return r.loadError
	}
	return errors.Join(r.loadError, r.enableLoops(ctx))
}

// load lets the instruments test themselves before any instrument of this process reports: what a
// self-test does must not be reported.
func (r *signalReceiver) load(ctx context.Context) {
	if !r.loaded {
		r.loaded = true
		r.loadError = r.loadLoops(ctx)
	}
}

func (r *signalReceiver) loadLoops(ctx context.Context) error {
	r.failed = nil
	if err := r.requireHost(r.shared.config.RootPath); err != nil {
		return err
	}
	var errs error
	for _, loop := range r.loops {
		if err := loop.Start(ctx); err != nil {
			r.fail(loop, err)
			errs = errors.Join(errs, fmt.Errorf("start %s: %w", loop.namedStats().name, err))
			if r.failsStart() {
				return errs
			}
			continue
		}
		r.running = append(r.running, loop)
	}
	return errs
}

func (r *signalReceiver) enableLoops(ctx context.Context) error {
	var errs error
	r.running = slices.DeleteFunc(r.running, func(l loop) bool {
		err := l.Enable()
		if err == nil {
			return false
		}
		r.fail(l, err)
		errs = errors.Join(errs, fmt.Errorf("start %s: %w", l.namedStats().name, err), l.Shutdown(ctx))
		return true
	})
	if len(r.running) > 0 {
		r.shared.limit.acquire()
		r.limited = true
	}
	return errs
}

func (r *signalReceiver) fail(l loop, err error) {
	if r.failed == nil {
		r.failed = map[string]error{}
	}
	r.failed[l.namedStats().name] = err
}

func (r *signalReceiver) stopLoops(ctx context.Context) error {
	r.status.close()
	var errs error
	for _, loop := range slices.Backward(r.running) {
		if err := loop.Shutdown(ctx); err != nil {
			errs = errors.Join(errs, fmt.Errorf("shut down %s: %w", loop.namedStats().name, err))
		}
	}
	r.running, r.loaded, r.loadError = nil, false, nil
	r.releaseReports()
	if r.limited {
		r.shared.limit.release()
		r.limited = false
	}
	return errs
}

// Shutdown implements [component.Component]. What the instruments observed until now is still
// delivered.
func (r *signalReceiver) Shutdown(ctx context.Context) error {
	err := errors.Join(r.shared.viewServer.close(ctx, r), r.stopLoops(ctx))
	if r.telemetry != nil {
		r.telemetry.Shutdown()
		r.telemetry = nil
	}
	if !r.released {
		r.receivers.release(r.shared)
		r.receivers.remove(r)
		r.released = true
	}
	return err
}
