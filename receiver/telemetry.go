// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// namedStats has what an instrument has counted, with its name.
type namedStats struct {
	name   string
	totals stats.Totals
}

// log logs once, in one line, what runs and by which hooks. At debug, and in the view's health, it
// also tells why a hook is not the best one, and what it does not see. If it is not known whether
// a hook fires, or if a program could not be loaded that should be, there is a warning.
func (l namedStats) log(logger *zap.Logger) {
	var hooks []string
	limits := map[string]int{}
	for _, hook := range l.totals.Hooks {
		hooks = append(hooks, hook.Job+" by "+hook.Name)
	}
	for name, m := range l.totals.Maps {
		limits[name] = m.Limit
	}
	logger.Info("instrument runs", zap.String("instrument", l.name), zap.Strings("hooks", hooks))
	logger.Debug(l.name+": what its maps hold at most", zap.Any("map_limits", limits))
	for _, hook := range l.totals.Hooks {
		// the messages differ, as the logger drops repeated ones
		what := l.name + ": " + hook.Job + " by " + hook.Name
		if len(hook.Refused) > 0 {
			logger.Debug(what+", since better hooks are not to be had", zap.Strings("because", hook.Refused))
		}
		if hook.NotSeen != "" {
			level := zap.DebugLevel
			if hook.Faulty {
				level = zap.WarnLevel
			}
			logger.Log(level, what+" does not see everything", zap.String("not_seen", hook.NotSeen))
		}
		switch {
		case hook.Unproven == "":
		case hook.Awaited:
			logger.Debug(what+" is attached, and nothing has made it fire yet", zap.String("because", hook.Unproven))
		default:
			logger.Warn(what+" is attached, and nothing could make it fire", zap.String("because", hook.Unproven))
		}
	}
}

// statsSource has statistics to publish.
type statsSource interface{ namedStats() namedStats }

// sharedStats are the statistics of something that instruments share.
type sharedStats struct {
	name     string
	recorder *stats.Recorder
}

func (s sharedStats) namedStats() namedStats {
	return namedStats{name: s.name, totals: s.recorder.Read()}
}

// registerTelemetry publishes the statistics of all sources among the Collector's own metrics,
// each value with the attributes receiver and instrument. Unless they are nil, it also publishes
// what contexts found and what a limit measured.
func registerTelemetry(settings component.TelemetrySettings, id component.ID, sources []statsSource, contexts *tracecontext.Contexts, limit *limit,
) (*metadata.TelemetryBuilder, error) {
	builder, err := metadata.NewTelemetryBuilder(settings)
	if err != nil {
		return nil, err
	}
	each := func(observe func(totals stats.Totals, value observeFunc)) metric.Int64Callback {
		return func(_ context.Context, observer metric.Int64Observer) error {
			for _, source := range sources {
				source.namedStats().observe(id, observer, observe)
			}
			return nil
		}
	}
	err = errors.Join(
		builder.RegisterNettapEventsSeenCallback(each(func(totals stats.Totals, value observeFunc) { value(totals.Seen) })),
		builder.RegisterNettapEventsExportedCallback(each(func(totals stats.Totals, value observeFunc) { value(totals.Exported) })),
		builder.RegisterNettapEventsAggregatedCallback(each(func(totals stats.Totals, value observeFunc) { value(totals.Aggregated) })),
		builder.RegisterNettapEventsSampledOutCallback(each(func(totals stats.Totals, value observeFunc) { value(totals.SampledOut) })),
		builder.RegisterNettapEventsRateLimitedCallback(each(observeRateLimited)),
		builder.RegisterNettapEventsLostCallback(each(observeLost)),
		builder.RegisterNettapCollectErrorsCallback(each(observeIfAny(func(totals stats.Totals) uint64 { return totals.CollectErrors }))),
		builder.RegisterNettapHookActiveCallback(each(observeHooks)),
		builder.RegisterNettapHookMissedRunsCallback(each(observeIfAny(func(totals stats.Totals) uint64 { return totals.MissedRuns }))),
		builder.RegisterNettapMapEntriesCallback(each(observeMaps(func(m stats.Map) uint64 { return uint64(m.Entries) }))),
		builder.RegisterNettapMapRefusedCallback(each(observeRefused)),
		builder.RegisterNettapMapLimitCallback(each(observeMaps(func(m stats.Map) uint64 { return uint64(m.Limit) }))),
		builder.RegisterNettapDropsWithoutProcessCallback(each(observeIfAny(func(totals stats.Totals) uint64 { return totals.WithoutProcess }))),
		builder.RegisterNettapCallsUnmeasuredCallback(each(observeIfAny(func(totals stats.Totals) uint64 { return totals.Unmeasured }))),
		builder.RegisterNettapTrafficCopiesCallback(each(observeIfAny(func(totals stats.Totals) uint64 { return totals.Copies }))),
	)
	err = errors.Join(err, registerScrapes(builder, id, sources))
	if contexts != nil {
		err = errors.Join(err, registerContexts(builder, id, contexts))
	}
	if limit != nil {
		err = errors.Join(err, registerLimit(builder, id, limit))
	}
	if err != nil {
		builder.Shutdown()
		return nil, err
	}
	return builder, nil
}

// observe passes the totals to an observer, with the attributes of the source.
func (l namedStats) observe(id component.ID, observer metric.Int64Observer, observe func(totals stats.Totals, value observeFunc)) {
	common := []attribute.KeyValue{attribute.String("receiver", id.String()), attribute.String("instrument", l.name)}
	observe(l.totals, func(value uint64, more ...attribute.KeyValue) {
		observer.Observe(int64(value), metric.WithAttributes(append(more, common...)...))
	})
}

// registerScrapes publishes the results of reads of counters with the names and attributes of
// scraperhelper, so that monitoring for scrapers also works for these instruments.
func registerScrapes(builder *metadata.TelemetryBuilder, id component.ID, sources []statsSource) error {
	each := func(of func(stats.Totals) uint64) metric.Int64Callback {
		return func(_ context.Context, observer metric.Int64Observer) error {
			for _, source := range sources {
				named := source.namedStats()
				if named.totals.Scraped == 0 && named.totals.Errored == 0 {
					continue
				}
				observer.Observe(int64(of(named.totals)), metric.WithAttributes(attribute.String("receiver", id.String()), attribute.String("scraper", named.name)))
			}
			return nil
		}
	}
	return errors.Join(
		builder.RegisterScraperScrapedMetricPointsCallback(each(func(totals stats.Totals) uint64 { return totals.Scraped })),
		builder.RegisterScraperErroredMetricPointsCallback(each(func(totals stats.Totals) uint64 { return totals.Errored })),
	)
}

func registerContexts(builder *metadata.TelemetryBuilder, id component.ID, contexts *tracecontext.Contexts) error {
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
		contextsStats(contexts).observe(id, observer, observeHooks)
		return nil
	}
	return errors.Join(
		builder.RegisterNettapHookActiveCallback(hooks),
		builder.RegisterNettapTraceContextFoundCallback(each("source", func(c tracecontext.Counts) map[string]uint64 { return c.Found })),
		builder.RegisterNettapTraceContextRefusedCallback(each("cause", func(c tracecontext.Counts) map[string]uint64 { return c.Refused })),
	)
}

func registerLimit(builder *metadata.TelemetryBuilder, id component.ID, limit *limit) error {
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

// contextsStats returns the hooks of contexts, which count no events.
func contextsStats(contexts *tracecontext.Contexts) namedStats {
	hooks, _ := contexts.Hooks()
	return namedStats{name: "trace_context", totals: stats.Totals{Hooks: hooks}}
}

type observeFunc func(value uint64, more ...attribute.KeyValue)

func observeLost(totals stats.Totals, value observeFunc) {
	for cause, lost := range totals.Lost {
		value(lost, attribute.String("cause", cause))
	}
}

func observeRateLimited(totals stats.Totals, value observeFunc) {
	for reason, n := range totals.RateLimited {
		value(n, attribute.String("reason", reason))
	}
}

func observeHooks(totals stats.Totals, value observeFunc) {
	for _, hook := range totals.Hooks {
		var proven uint64
		if hook.Unproven == "" {
			proven = 1
		}
		value(proven, attribute.String("job", hook.Job), attribute.String("hook", hook.Name), attribute.Bool("awaited", hook.Awaited))
	}
}

func observeRefused(totals stats.Totals, value observeFunc) {
	for name, m := range totals.Maps {
		if m.Refused > 0 {
			value(m.Refused, attribute.String("map", name))
		}
	}
}

func observeMaps(of func(stats.Map) uint64) func(totals stats.Totals, value observeFunc) {
	return func(totals stats.Totals, value observeFunc) {
		for name, m := range totals.Maps {
			value(of(m), attribute.String("map", name))
		}
	}
}

// observeIfAny is for totals that most instruments do not have.
func observeIfAny(of func(stats.Totals) uint64) func(totals stats.Totals, value observeFunc) {
	return func(totals stats.Totals, value observeFunc) {
		if n := of(totals); n > 0 {
			value(n)
		}
	}
}
