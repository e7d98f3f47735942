package nettapreceiver

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// ledger is a page of an instrument's books, with its name.
type ledger struct {
	name string
	page books.Page
}

// log says once what runs, and by which hooks: one line. Why a hook is not the best there
// is, and what it does not see, is for who asks: at debug, and in the view's health.
// Where it is not known whether one fires there is a warning.
func (l ledger) log(logger *zap.Logger) {
	var hooks []string
	limits := map[string]int{}
	for _, hook := range l.page.Hooks {
		hooks = append(hooks, hook.Job+" by "+hook.Name)
	}
	for name, m := range l.page.Maps {
		limits[name] = m.Limit
	}
	logger.Info("instrument runs", zap.String("instrument", l.name), zap.Strings("hooks", hooks))
	logger.Debug(l.name+": what its maps hold at most", zap.Any("map_limits", limits))
	for _, hook := range l.page.Hooks {
		what := l.name + ": " + hook.Job + " by " + hook.Name // no two messages alike, or the logger samples them
		if len(hook.Refused) > 0 {
			logger.Debug(what+", since better hooks are not to be had", zap.Strings("because", hook.Refused))
		}
		if hook.NotSeen != "" {
			logger.Debug(what+" does not see everything", zap.String("not_seen", hook.NotSeen))
		}
		switch {
		case hook.Unproven == "":
		case hook.Cause.IsAwaited():
			logger.Debug(what+" is attached, and nothing has made it fire yet", zap.String("because", hook.Unproven))
		default:
			logger.Warn(what+" is attached, and nothing could make it fire", zap.String("because", hook.Unproven))
		}
	}
}

// bookkeeper is what has books to publish.
type bookkeeper interface{ ledger() ledger }

// sideline is what instruments share, and has books of its own.
type sideline struct {
	name  string
	books *books.Books
}

func (s sideline) ledger() ledger { return ledger{name: s.name, page: s.books.Read()} }

// publish shows the books of all among the Collector's own metrics, each value
// with the attributes receiver and instrument, what contexts found and what a limit
// measured, if these are not nil.
func publish(settings component.TelemetrySettings, id component.ID, keepers []bookkeeper, contexts *tracecontext.Contexts, limit *limit,
) (*metadata.TelemetryBuilder, error) {
	builder, err := metadata.NewTelemetryBuilder(settings)
	if err != nil {
		return nil, err
	}
	each := func(observe func(page books.Page, value observeFunc)) metric.Int64Callback {
		return func(_ context.Context, observer metric.Int64Observer) error {
			for _, keeper := range keepers {
				keeper.ledger().observe(id, observer, observe)
			}
			return nil
		}
	}
	err = errors.Join(
		builder.RegisterNettapEventsSeenCallback(each(func(page books.Page, value observeFunc) { value(page.Seen) })),
		builder.RegisterNettapEventsExportedCallback(each(func(page books.Page, value observeFunc) { value(page.Exported) })),
		builder.RegisterNettapEventsAggregatedCallback(each(func(page books.Page, value observeFunc) { value(page.Aggregated) })),
		builder.RegisterNettapEventsSampledOutCallback(each(func(page books.Page, value observeFunc) { value(page.SampledOut) })),
		builder.RegisterNettapEventsLostCallback(each(observeLost)),
		builder.RegisterNettapHookActiveCallback(each(observeHooks)),
		builder.RegisterNettapHookMissedRunsCallback(each(observeIfAny(func(page books.Page) uint64 { return page.MissedRuns }))),
		builder.RegisterNettapMapEntriesCallback(each(observeMaps(func(m books.Map) int { return m.Entries }))),
		builder.RegisterNettapMapLimitCallback(each(observeMaps(func(m books.Map) int { return m.Limit }))),
		builder.RegisterNettapDropsWithoutProcessCallback(each(observeIfAny(func(page books.Page) uint64 { return page.WithoutProcess }))),
		builder.RegisterNettapTrafficCopiesCallback(each(observeIfAny(func(page books.Page) uint64 { return page.Copies }))),
	)
	if contexts != nil {
		err = errors.Join(err, publishContexts(builder, id, contexts))
	}
	if limit != nil {
		err = errors.Join(err, publishLimit(builder, id, limit))
	}
	if err != nil {
		builder.Shutdown()
		return nil, err
	}
	return builder, nil
}

// observe gives an observer what is observed of the page, with whose page it is.
func (l ledger) observe(id component.ID, observer metric.Int64Observer, observe func(page books.Page, value observeFunc)) {
	common := []attribute.KeyValue{attribute.String("receiver", id.String()), attribute.String("instrument", l.name)}
	observe(l.page, func(value uint64, more ...attribute.KeyValue) {
		observer.Observe(int64(value), metric.WithAttributes(append(more, common...)...))
	})
}

func publishContexts(builder *metadata.TelemetryBuilder, id component.ID, contexts *tracecontext.Contexts) error {
	each := func(key string, of func(tracecontext.Counts) map[string]uint64) metric.Int64Callback {
		return func(_ context.Context, observer metric.Int64Observer) error {
			counts, err := contexts.Counts()
			for name, n := range of(counts) {
				observer.Observe(int64(n), metric.WithAttributes(attribute.String("receiver", id.String()), attribute.String(key, name)))
			}
			return err
		}
	}
	hooks := func(_ context.Context, observer metric.Int64Observer) error {
		ledgerOf(contexts).observe(id, observer, observeHooks)
		return nil
	}
	return errors.Join(
		builder.RegisterNettapHookActiveCallback(hooks),
		builder.RegisterNettapTraceContextFoundCallback(each("source", func(c tracecontext.Counts) map[string]uint64 { return c.Found })),
		builder.RegisterNettapTraceContextRefusedCallback(each("cause", func(c tracecontext.Counts) map[string]uint64 { return c.Refused })),
	)
}

func publishLimit(builder *metadata.TelemetryBuilder, id component.ID, limit *limit) error {
	receiver := attribute.String("receiver", id.String())
	step := func(_ context.Context, observer metric.Int64Observer) error {
		if usage := limit.read(); usage.measured {
			observer.Observe(int64(usage.step), metric.WithAttributes(receiver))
		}
		return nil
	}
	share := func(_ context.Context, observer metric.Float64Observer) error {
		if usage := limit.read(); usage.measured {
			observer.Observe(usage.programs, metric.WithAttributes(receiver, attribute.String("part", "programs")))
			observer.Observe(usage.loops, metric.WithAttributes(receiver, attribute.String("part", "loops")))
		}
		return nil
	}
	return errors.Join(builder.RegisterNettapLimitStepCallback(step), builder.RegisterNettapCPUUsageCallback(share))
}

// ledgerOf has the hooks of contexts, which have no books of events.
func ledgerOf(contexts *tracecontext.Contexts) ledger {
	hooks, _ := contexts.Hooks()
	return ledger{name: "trace_context", page: books.Page{Hooks: hooks}}
}

type observeFunc func(value uint64, more ...attribute.KeyValue)

func observeLost(page books.Page, value observeFunc) {
	for cause, lost := range page.Lost {
		value(lost, attribute.String("cause", cause))
	}
}

func observeHooks(page books.Page, value observeFunc) {
	for _, hook := range page.Hooks {
		var proven uint64
		if hook.Unproven == "" {
			proven = 1
		}
		value(proven, attribute.String("job", hook.Job), attribute.String("hook", hook.Name))
	}
}

func observeMaps(of func(books.Map) int) func(page books.Page, value observeFunc) {
	return func(page books.Page, value observeFunc) {
		for name, m := range page.Maps {
			value(uint64(of(m)), attribute.String("map", name))
		}
	}
}

// observeIfAny is for what most instruments do not have.
func observeIfAny(of func(books.Page) uint64) func(page books.Page, value observeFunc) {
	return func(page books.Page, value observeFunc) {
		if n := of(page); n > 0 {
			value(n)
		}
	}
}
