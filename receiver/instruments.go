//go:build linux

package nettapreceiver

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/accepts"
	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/drops"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
	"github.com/seed-7756021b/nettap/internal/traffic"
)

// requireHost says what this machine or container lacks for any instrument.
func requireHost(rootPath string) error { return kernel.RequireHost(rootPath) }

// programTime is how long BPF programs ran while wait did.
func programTime(wait func()) (ran, during time.Duration, err error) { return kernel.RunTime(wait) }

// threadTime is the CPU time of the running thread.
func threadTime() time.Duration { return kernel.ThreadTime() }

// metricsTasks returns the instruments whose signal is metrics.
func metricsTasks(h *house, settings receiver.Settings) []task[pmetric.Metrics] {
	c := h.config
	ofTraffic, ofDrops := new(books.Books), new(books.Books)
	owners := owner.New(owner.Options{RootPath: c.RootPath, MaxProcesses: c.Traffic.MaxProcesses, AvoidHooks: c.AvoidHooks})
	all := interfaces.New()
	known, knownToDrops := all.NewReader(), all.NewReader()
	builder := func(config metadata.MetricsBuilderConfig) *metadata.MetricsBuilder {
		return metadata.NewMetricsBuilder(config, settings)
	}
	counting := traffic.New(builder(c.Traffic.metricsBuilderConfig()), owners, known, h.processes, h.clock, ofTraffic, c.Traffic.options(c.RootPath))
	dropping := drops.New(builder(c.Drops.metricsBuilderConfig()), owners.Another(), knownToDrops, h.contexts, h.processes, h.clock, ofDrops,
		drops.Options{RootPath: c.RootPath, Explanations: c.Drops.Explanations, Victims: c.Drops.Metrics.ProcessPacketDropped.Enabled || h.viewing != nil})
	if h.viewing != nil {
		shown := metadata.MetricsBuilderConfig{Metrics: metadata.DefaultMetricsConfig(), ResourceAttributes: c.viewResourceAttributes()}
		counting.PeekWith(builder(shown), h.viewing.directory)
		dropping.PeekWith(builder(shown))
	}
	return []task[pmetric.Metrics]{
		{"traffic", c.Traffic.InstrumentConfig, ofTraffic, withCgroups(h, after[pmetric.Metrics]{owners, after[pmetric.Metrics]{known, counting}})},
		{"drops", c.Drops.InstrumentConfig, ofDrops, withCgroups(h, withContexts(h, after[pmetric.Metrics]{knownToDrops, dropping}))},
	}
}

// logsTasks returns the instruments whose signal is logs.
func logsTasks(h *house, settings receiver.Settings) []task[plog.Logs] {
	c := h.config
	ofAccepts := new(books.Books)
	builder := metadata.NewLogsBuilder(c.Accepts.logsBuilderConfig(), settings)
	return []task[plog.Logs]{
		{"accepts", c.Accepts.InstrumentConfig, ofAccepts, withCgroups(h, withContexts(h,
			accepts.New(builder, h.contexts, h.processes, h.clock, ofAccepts, c.acceptsOptions())))},
	}
}

// tracesTasks returns the instruments whose signal is traces.
func tracesTasks(h *house, settings receiver.Settings) []task[ptrace.Traces] {
	c := h.config
	ofCalls := new(books.Books)
	return []task[ptrace.Traces]{
		{"calls", c.Calls.InstrumentConfig, ofCalls, withCgroups(h, withContexts(h,
			withLimit(h,
				calls.New(c.Calls.ResourceAttributes, settings.BuildInfo.Version, h.contexts, h.processes, h.clock, ofCalls, c.callsOptions()))))},
	}
}

// newContexts returns what finds the trace contexts of the house's instruments, nil
// where the configuration has no sources.
func newContexts(config *Config, logger *zap.Logger, limit *limit) *tracecontext.Contexts {
	if len(config.TraceContext.Sources) == 0 {
		return nil
	}
	options := config.traceContextOptions()
	options.Warn = func(message string) { logger.Warn(message) }
	options.Inform = func(message string) { logger.Info(message) }
	options.Work = limit.take
	return tracecontext.NewContexts(options)
}

// withContexts lets an instrument run while trace contexts are found, if any are.
func withContexts[T instrument.Telemetry](h *house, i instrument.Instrument[T]) instrument.Instrument[T] {
	if h.contexts == nil {
		return i
	}
	return after[T]{h.contexts, i}
}

// withCgroups lets an instrument run while cgroups are watched: those of the processes
// that it describes may be gone when it does.
func withCgroups[T instrument.Telemetry](h *house, i instrument.Instrument[T]) instrument.Instrument[T] {
	return after[T]{h.cgroups, i}
}

// withLimit lets calls leave out some of what they do where nettap takes too much.
func withLimit(h *house, of *calls.Calls) instrument.Instrument[ptrace.Traces] {
	if h.limit == nil {
		return of
	}
	return limited[ptrace.Traces]{of, of, h.limit}
}

func (c *Config) acceptsOptions() accepts.Options {
	return accepts.Options{
		MaxPerSecond: c.Accepts.MaxPerSecond, LateBind: c.TraceContext.LateBind, AvoidHooks: c.AvoidHooks,
		Expect: c.Accepts.Policy.rules(), Learn: c.Accepts.Policy.Learn,
	}
}

// options returns what traffic has to know of its configuration. It tells
// transports and network types apart only if a metric shows them.
func (c *TrafficConfig) options(rootPath string) traffic.Options {
	shows := func(io metadata.ProcessNetworkIoMetricAttributeKey, count metadata.NettapProcessNetworkPacketCountMetricAttributeKey) bool {
		return slices.Contains(c.Metrics.ProcessNetworkIO.EnabledAttributes, io) ||
			slices.Contains(c.Metrics.ProcessNetworkPacketCount.EnabledAttributes, count)
	}
	return traffic.Options{
		RootPath:      rootPath,
		AllNamespaces: c.Namespaces == namespacesAll,
		Transport: shows(metadata.ProcessNetworkIoMetricAttributeKeyNetworkTransportOptIn,
			metadata.NettapProcessNetworkPacketCountMetricAttributeKeyNetworkTransportOptIn),
		Type: shows(metadata.ProcessNetworkIoMetricAttributeKeyNetworkTypeOptIn,
			metadata.NettapProcessNetworkPacketCountMetricAttributeKeyNetworkTypeOptIn),
		Namespace: shows(metadata.ProcessNetworkIoMetricAttributeKeyNettapNetnsInodeOptIn,
			metadata.NettapProcessNetworkPacketCountMetricAttributeKeyNettapNetnsInodeOptIn),
	}
}
