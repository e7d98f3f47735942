package nettapreceiver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// nettap is a receiver in the pipelines of one signal: the instruments of that
// signal, in the house it shares with the other signals of its configuration.
type nettap struct {
	houses    *houses
	house     *house
	logger    *zap.Logger
	settings  component.TelemetrySettings
	id        component.ID
	workers   []worker // the enabled ones
	running   []worker
	telemetry *metadata.TelemetryBuilder
	failed    map[string]error // workers that could not start, by name
	left      bool
	limited   bool // it takes part in the house's limit

	signal string
	build  component.BuildInfo
	alone  bool // it runs for the view, and no pipeline has it

	requireHost func(rootPath string) error
}

// worker is one instrument with its loop, of whatever signal.
type worker interface {
	Start(ctx context.Context) error
	Begin() error
	Shutdown(ctx context.Context) error
	ledger() ledger
	look(ctx context.Context)
	lately() reading
}

func newNettap[T instrument.Telemetry](
	houses *houses, config *Config, settings receiver.Settings, outlet outlet[T], tasks func(*house, receiver.Settings) []task[T],
) *nettap {
	n := &nettap{
		houses:   houses,
		house:    houses.enter(config, settings.Logger),
		logger:   settings.Logger,
		settings: settings.TelemetrySettings,
		id:       settings.ID,
		signal:   signalOf[T](),
		build:    settings.BuildInfo,

		requireHost: requireHost,
	}
	for _, task := range tasks(n.house, settings) {
		if task.config.Enabled {
			n.workers = append(n.workers, newLoop(task, outlet, settings.Logger).shownBy(n.house.viewing).within(n.house.limit))
		}
	}
	n.house.viewing.expect(n)
	return n
}

// Start implements [component.Component]. Unless the configuration says warn, it
// starts every instrument or none.
func (n *nettap) Start(ctx context.Context, host component.Host) error {
	if err := n.startInstruments(ctx, host); err != nil {
		return err
	}
	if err := n.house.viewing.open(ctx, n, host); err != nil {
		if n.failsStart() {
			return errors.Join(err, n.Shutdown(ctx))
		}
		n.logger.Warn("the view is left off, since on_unsupported is warn", zap.Error(err))
	}
	return nil
}

func (n *nettap) startInstruments(ctx context.Context, host component.Host) error {
	if len(n.workers) == 0 {
		n.logger.Warn("no instrument of this signal is enabled")
		return nil
	}
	off := n.startWorkers(ctx)
	if off != nil && n.failsStart() {
		return errors.Join(off, n.stopWorkers(ctx))
	}
	if off != nil {
		n.logger.Warn("left off, since on_unsupported is warn", zap.Error(off))
		componentstatus.ReportStatus(host, componentstatus.NewPermanentErrorEvent(off))
	}
	n.house.warnWithoutHostID(n.logger)
	for _, worker := range n.running {
		worker.ledger().log(n.logger)
	}
	var err error
	if n.telemetry, err = publish(n.settings, n.id, n.bookkeepers(), n.contextsToReport(), n.limitToReport()); err != nil {
		return errors.Join(err, n.stopWorkers(ctx))
	}
	return nil
}

// bookkeepers returns those whose books are published: the workers, and in one of the
// house's signals the watch of cgroups.
func (n *nettap) bookkeepers() []bookkeeper {
	var all []bookkeeper
	for _, worker := range n.running {
		all = append(all, worker)
	}
	watch := sideline{name: "cgroups", books: n.house.ofCgroups}
	started := len(watch.ledger().page.Hooks) > 0
	if started && n.house.auditor.take(n) {
		watch.ledger().log(n.logger)
		all = append(all, watch)
	}
	return all
}

// contextsToReport returns the house's contexts to one of its signals, and nil to the others.
func (n *nettap) contextsToReport() *tracecontext.Contexts {
	if _, running := n.house.contexts.Hooks(); !running || !n.house.reporter.take(n) {
		return nil
	}
	ledgerOf(n.house.contexts).log(n.logger)
	return n.house.contexts
}

// limitToReport returns the house's limit to one of its signals, and nil to the others.
func (n *nettap) limitToReport() *limit {
	if limit := n.house.limit; limit != nil && n.limited && limit.reporter.take(n) {
		return limit
	}
	return nil
}

// releaseReports lets the next start give what n reports on to another signal.
func (n *nettap) releaseReports() {
	n.house.auditor.release(n)
	n.house.reporter.release(n)
	if n.house.limit != nil {
		n.house.limit.reporter.release(n)
	}
}

func (n *nettap) failsStart() bool { return n.house.config.OnUnsupported != onUnsupportedWarn }

// startWorkers starts what it can, or all until the first that cannot, and
// returns why the others did not start. None begins before all have proved
// themselves, so that none reports how another one did.
func (n *nettap) startWorkers(ctx context.Context) error {
	defer kernel.Keep()()
	n.failed = nil
	if err := n.requireHost(n.house.config.RootPath); err != nil {
		return err
	}
	var errs error
	for _, worker := range n.workers {
		if err := worker.Start(ctx); err != nil {
			n.fail(worker, err)
			errs = errors.Join(errs, fmt.Errorf("start %s: %w", worker.ledger().name, err))
			if n.failsStart() {
				return errs
			}
			continue
		}
		n.running = append(n.running, worker)
	}
	n.running = slices.DeleteFunc(n.running, func(w worker) bool {
		err := w.Begin()
		if err == nil {
			return false
		}
		n.fail(w, err)
		errs = errors.Join(errs, fmt.Errorf("start %s: %w", w.ledger().name, err), w.Shutdown(ctx))
		return true
	})
	if len(n.running) > 0 {
		n.house.limit.open()
		n.limited = true
	}
	return errs
}

func (n *nettap) fail(w worker, err error) {
	if n.failed == nil {
		n.failed = map[string]error{}
	}
	n.failed[w.ledger().name] = err
}

func (n *nettap) stopWorkers(ctx context.Context) error {
	var errs error
	for _, worker := range slices.Backward(n.running) {
		if err := worker.Shutdown(ctx); err != nil {
			errs = errors.Join(errs, fmt.Errorf("shut down %s: %w", worker.ledger().name, err))
		}
	}
	n.running = nil
	n.releaseReports()
	if n.limited {
		n.house.limit.close()
		n.limited = false
	}
	return errs
}

// Shutdown implements [component.Component]. What the instruments saw until now
// is still delivered.
func (n *nettap) Shutdown(ctx context.Context) error {
	err := errors.Join(n.house.viewing.close(ctx, n), n.stopWorkers(ctx))
	if n.telemetry != nil {
		n.telemetry.Shutdown()
		n.telemetry = nil
	}
	if !n.left {
		n.houses.leave(n.house)
		n.left = true
	}
	return err
}
