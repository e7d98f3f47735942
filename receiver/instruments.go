// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nettapreceiver

import (
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/accepts"
	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/connections"
	"github.com/seed-7756021b/nettap/internal/drops"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/interfaces"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/listeners"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/places"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
	"github.com/seed-7756021b/nettap/internal/traffic"
)

// requireHost returns an error that tells what this machine or container lacks for any instrument.
func requireHost(rootPath string) error { return kernel.RequireHost(rootPath) }

// programTime measures for how long BPF programs ran during wait.
func programTime(wait func()) (ran, during time.Duration, err error) { return kernel.RunTime(wait) }

// threadTime returns the CPU time of the running thread.
func threadTime() time.Duration { return kernel.ThreadTime() }

// metricsInstruments returns the instruments whose signal is metrics.
func metricsInstruments(shared *sharedReceiver, settings receiver.Settings) []configuredInstrument[pmetric.Metrics] {
	c := shared.config
	trafficStats, dropsStats, listenersStats, connectionsStats := new(stats.Recorder), new(stats.Recorder), new(stats.Recorder), new(stats.Recorder)
	owners := owner.New(owner.Options{RootPath: c.RootPath, MaxProcesses: c.Traffic.MaxProcesses, AvoidHooks: c.AvoidHooks, Places: shared.places})
	all := interfaces.New()
	known, knownToDrops := all.NewReader(), all.NewReader()
	builder := func(config metadata.MetricsBuilderConfig) *metadata.MetricsBuilder {
		return metadata.NewMetricsBuilder(config, settings)
	}
	counting := traffic.New(builder(c.Traffic.metricsBuilderConfig()), owners, known, shared.processes, shared.clock, trafficStats, c.Traffic.options(c.RootPath, shared.places))
	dropping := drops.New(builder(c.Drops.metricsBuilderConfig()), owners.Another(), knownToDrops, shared.contexts, shared.processes, shared.clock, dropsStats,
		drops.Options{RootPath: c.RootPath, Unseen: c.Drops.Metrics.DropUnseen.Enabled, Explanations: c.Drops.Explanations, Resets: c.Drops.Metrics.TCPReset.Enabled,
			Victims: c.Drops.Metrics.ProcessPacketDropped.Enabled || c.Drops.Metrics.TCPReset.Enabled || shared.viewServer != nil})
	if shared.viewServer != nil {
		shown := metadata.MetricsBuilderConfig{Metrics: metadata.DefaultMetricsConfig(), ResourceAttributes: c.viewResourceAttributes()}
		counting.PeekWith(builder(shown), shared.viewServer.directory)
		dropping.PeekWith(builder(shown))
	}
	instruments := []configuredInstrument[pmetric.Metrics]{
		{"traffic", c.Traffic.InstrumentConfig, trafficStats, withCgroups(shared, withPlaces(shared, dependent[pmetric.Metrics]{owners, dependent[pmetric.Metrics]{known, counting}}))},
		{"drops", c.Drops.InstrumentConfig, dropsStats, withCgroups(shared, withContexts(shared, dependent[pmetric.Metrics]{knownToDrops, dropping}))},
		{"listeners", c.Listeners.InstrumentConfig, listenersStats, withCgroups(shared,
			listeners.NewQueues(builder(c.Listeners.metricsBuilderConfig()), shared.processes, shared.clock, listenersStats, c.AvoidHooks))},
		{"connections", c.Connections.InstrumentConfig, connectionsStats, withCgroups(shared, withPlaces(shared,
			connections.New(builder(c.Connections.metricsBuilderConfig()), owners.Another(), shared.processes, shared.clock, connectionsStats,
				connections.Options{RootPath: c.RootPath, AvoidHooks: c.AvoidHooks})))},
	}
	if c.Calls.Metrics.SocketWaitDuration.Enabled {
		instruments = append(instruments, waitDurations(shared, settings))
	}
	return instruments
}

// logsInstruments returns the instruments whose signal is logs.
func logsInstruments(shared *sharedReceiver, settings receiver.Settings) []configuredInstrument[plog.Logs] {
	c := shared.config
	acceptsStats := new(stats.Recorder)
	builder := metadata.NewLogsBuilder(c.Accepts.logsBuilderConfig(), settings)
	all := []configuredInstrument[plog.Logs]{
		{"accepts", c.Accepts.InstrumentConfig, acceptsStats, withCgroups(shared, withContexts(shared,
			accepts.New(builder, shared.contexts, shared.processes, shared.clock, acceptsStats, c.acceptsOptions(shared.places))))},
	}
	if c.Drops.Records {
		all = append(all, dropRecords(shared, settings))
	}
	return all
}

// ringInterval is how often a ring of events is read.
const ringInterval = time.Second

// dropRecords returns the instrument that reports single dropped packets.
func dropRecords(shared *sharedReceiver, settings receiver.Settings) configuredInstrument[plog.Logs] {
	c, recorder := shared.config.Drops, new(stats.Recorder)
	options := drops.RecordOptions{Version: settings.BuildInfo.Version, Interval: c.RecordInterval, MaxPerSecond: c.MaxRecordsPerSecond}
	records := drops.NewRecords(c.ResourceAttributes, shared.contexts, shared.processes, shared.clock, recorder, options)
	c.CollectionInterval = min(c.CollectionInterval, ringInterval)
	return configuredInstrument[plog.Logs]{"drop_records", c.InstrumentConfig, recorder, withContexts(shared, records)}
}

// tracesInstruments returns the instruments whose signal is traces.
func tracesInstruments(shared *sharedReceiver, settings receiver.Settings) []configuredInstrument[ptrace.Traces] {
	c := shared.config
	of, callsStats := shared.calls.of(shared, settings)
	return []configuredInstrument[ptrace.Traces]{
		{"calls", c.Calls.InstrumentConfig, callsStats, withCgroups(shared, withContexts(shared, withLimit(shared, of, of)))},
	}
}

// sharedCalls has the instrument calls, whose BPF programs the instrument wait_durations also uses.
type sharedCalls struct {
	once     sync.Once
	calls    *calls.Calls
	recorder *stats.Recorder
}

func (s *sharedCalls) of(shared *sharedReceiver, settings receiver.Settings) (*calls.Calls, *stats.Recorder) {
	s.once.Do(func() {
		c := shared.config
		s.recorder = new(stats.Recorder)
		options := c.callsOptions()
		options.Places = shared.places
		s.calls = calls.New(c.Calls.ResourceAttributes, settings.BuildInfo.Version, shared.contexts, shared.processes, shared.clock, s.recorder, options)
	})
	return s.calls, s.recorder
}

// durationsPerInterval is how many collection intervals of calls make one of wait_durations. The ring of
// calls has to be read often, but counters do not.
const durationsPerInterval = 10

// waitDurations returns the instrument that reports how long waits took.
func waitDurations(shared *sharedReceiver, settings receiver.Settings) configuredInstrument[pmetric.Metrics] {
	c, recorder := shared.config.Calls, new(stats.Recorder)
	of, _ := shared.calls.of(shared, settings)
	builder := metadata.NewMetricsBuilder(c.metricsBuilderConfig(), settings)
	durations := calls.NewDurations(of, builder, shared.processes, shared.clock, recorder)
	c.CollectionInterval *= durationsPerInterval
	return configuredInstrument[pmetric.Metrics]{"wait_durations", c.InstrumentConfig, recorder,
		withCgroups(shared, withContexts(shared, withLimit(shared, of, durations)))}
}

// newContexts returns the trace contexts for all instruments, or nil if the configuration has no
// sources.
func newContexts(config *Config, logger *zap.Logger, limit *limit, at *places.Places) *tracecontext.Contexts {
	if len(config.TraceContext.Sources) == 0 {
		return nil
	}
	options := config.traceContextOptions()
	options.Places = at
	options.Warn = func(message string) { logger.Warn(message) }
	options.Inform = func(message string) { logger.Info(message) }
	options.Work = limit.measureWork
	return tracecontext.NewContexts(options)
}

// withContexts makes an instrument depend on the trace contexts, if there are any, and on the places that it shares with others.
func withContexts[T instrument.Telemetry](shared *sharedReceiver, i instrument.Instrument[T]) instrument.Instrument[T] {
	if shared.contexts != nil {
		i = dependent[T]{shared.contexts, i}
	}
	return withPlaces(shared, i)
}

// withCgroups makes an instrument depend on the watch of cgroups. The cgroup of a process may be
// gone when the instrument describes the process.
func withCgroups[T instrument.Telemetry](shared *sharedReceiver, i instrument.Instrument[T]) instrument.Instrument[T] {
	return dependent[T]{shared.cgroups, i}
}

// withLimit lets the limit reduce what calls does for an instrument if nettap takes too much.
func withLimit[T instrument.Telemetry](shared *sharedReceiver, of *calls.Calls, i instrument.Instrument[T]) instrument.Instrument[T] {
	if shared.limit == nil {
		return i
	}
	return limited[T]{i, of, shared.limit}
}

func (c *Config) acceptsOptions(at *places.Places) accepts.Options {
	return accepts.Options{
		MaxPerSecond: c.Accepts.MaxPerSecond, LateBind: c.TraceContext.LateBind, AvoidHooks: c.AvoidHooks, Places: at,
		Expect: c.Accepts.Policy.rules(), Learn: c.Accepts.Policy.Learn,
		Refused: c.Accepts.Events.NettapConnectionRefused.Enabled, Closed: c.Accepts.Events.NettapConnectionClosed.Enabled,
		Listeners: c.Accepts.Events.NettapListenerOpened.Enabled || c.Accepts.Events.NettapListenerClosed.Enabled,
	}
}

// options returns the options of traffic. It distinguishes transports and network types only if a
// metric shows them.
func (c *TrafficConfig) options(rootPath string, at *places.Places) traffic.Options {
	shows := func(io metadata.ProcessNetworkIoMetricAttributeKey, count metadata.NettapProcessNetworkPacketCountMetricAttributeKey) bool {
		return slices.Contains(c.Metrics.ProcessNetworkIO.EnabledAttributes, io) ||
			slices.Contains(c.Metrics.ProcessNetworkPacketCount.EnabledAttributes, count)
	}
	return traffic.Options{
		RootPath:      rootPath,
		Places:        at,
		AllNamespaces: c.Namespaces == namespacesAll,
		Transport: shows(metadata.ProcessNetworkIoMetricAttributeKeyNetworkTransportOptIn,
			metadata.NettapProcessNetworkPacketCountMetricAttributeKeyNetworkTransportOptIn),
		Type: shows(metadata.ProcessNetworkIoMetricAttributeKeyNetworkTypeOptIn,
			metadata.NettapProcessNetworkPacketCountMetricAttributeKeyNetworkTypeOptIn),
		Namespace: shows(metadata.ProcessNetworkIoMetricAttributeKeyNettapNetnsInodeOptIn,
			metadata.NettapProcessNetworkPacketCountMetricAttributeKeyNettapNetnsInodeOptIn),
	}
}
