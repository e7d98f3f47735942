// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

// Config is the nettap receiver's configuration: one block for each instrument, and what they
// share.
type Config struct {
	// Traffic counts packets and bytes per process and interface, as metrics.
	Traffic TrafficConfig `mapstructure:"traffic"`

	// Drops counts discarded packets by place and reason, as metrics.
	Drops DropsConfig `mapstructure:"drops"`

	// Accepts reports accepted TCP connections, as log records.
	Accepts AcceptsConfig `mapstructure:"accepts"`

	// Listeners reports how many connections wait in accept queues, as metrics.
	Listeners ListenersConfig `mapstructure:"listeners"`

	// Connections counts what becomes of the TCP connections of each process, as metrics.
	Connections ConnectionsConfig `mapstructure:"connections"`

	// Calls reports the trees of functions that socket calls go through, as traces.
	Calls CallsConfig `mapstructure:"calls"`

	// TraceContext sets how calls, accepts and drops are related to the span of the
	// application that they belong to.
	TraceContext TraceContextConfig `mapstructure:"trace_context"`

	// View shows to people, over HTTP, what the instruments observe.
	View ViewConfig `mapstructure:"view"`

	// OnUnsupported sets what happens if an instrument cannot run: with "error" the Collector
	// does not start, with "warn" the instrument is off and all others run.
	OnUnsupported string `mapstructure:"on_unsupported"`

	// AvoidHooks are hooks ("fentry/security_sock_graft") and kinds of hooks ("fentry")
	// that are not used if another hook can do the same job.
	AvoidHooks []string `mapstructure:"avoid_hooks"`

	// MaxCPU is the share of the machine's CPU time, such as "2%", that the programs in the
	// kernel and the loops that read them may take. Above it nettap reports less, in steps.
	// With 0 nothing is measured and there is no limit.
	MaxCPU      percent `mapstructure:"max_cpu"`
	maxCPUIsSet bool    // by the user

	// RootPath is where the host's root file system is mounted, when the
	// Collector runs in a container; empty means "/".
	RootPath string `mapstructure:"root_path"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// InstrumentConfig has the settings that every instrument has.
type InstrumentConfig struct {
	// Enabled lets the instrument run if a pipeline of its signal uses the receiver or the
	// view is on.
	Enabled bool `mapstructure:"enabled"`

	// CollectionInterval is the time between two reads of the kernel's maps or ring.
	CollectionInterval time.Duration `mapstructure:"collection_interval"`

	// InitialDelay is the time from the start to the first read.
	InitialDelay time.Duration `mapstructure:"initial_delay"`

	// ResourceAttributes turns individual resource attributes on and off.
	ResourceAttributes metadata.ResourceAttributesConfig `mapstructure:"resource_attributes"`
}

// TrafficConfig is the block "traffic".
type TrafficConfig struct {
	InstrumentConfig `mapstructure:",squash"`

	// MaxProcesses is how many processes have series of their own at the same time.
	MaxProcesses int `mapstructure:"max_processes"`

	// Namespaces limits nettap.interface.* to the host's network namespace
	// ("host") or reports every one ("all"). Series of processes are not limited.
	Namespaces string `mapstructure:"namespaces"`

	// Metrics turns individual metrics and their attributes on and off.
	Metrics TrafficMetricsConfig `mapstructure:"metrics"`
}

// TrafficMetricsConfig has the metrics of [metadata.MetricsConfig] that traffic reports.
type TrafficMetricsConfig struct {
	InterfaceIO                    metadata.NettapInterfaceIoMetricConfig                    `mapstructure:"nettap.interface.io"`
	InterfacePacketCount           metadata.NettapInterfacePacketCountMetricConfig           `mapstructure:"nettap.interface.packet.count"`
	InterfaceUnobservedIO          metadata.NettapInterfaceUnobservedIoMetricConfig          `mapstructure:"nettap.interface.unobserved.io"`
	InterfaceUnobservedPacketCount metadata.NettapInterfaceUnobservedPacketCountMetricConfig `mapstructure:"nettap.interface.unobserved.packet.count"`
	ProcessNetworkPacketCount      metadata.NettapProcessNetworkPacketCountMetricConfig      `mapstructure:"nettap.process.network.packet.count"`
	ProcessNetworkIO               metadata.ProcessNetworkIoMetricConfig                     `mapstructure:"process.network.io"`
}

// DropsConfig is the block "drops".
type DropsConfig struct {
	InstrumentConfig `mapstructure:",squash"`

	// Explanations adds the attribute nettap.drop.explanation to each point, which tells in
	// words what the reason means and what to do about it. It does not add series.
	Explanations bool `mapstructure:"explanations"`

	// Records reports single dropped packets as log records, if a logs pipeline uses the
	// receiver.
	Records bool `mapstructure:"records"`

	// RecordInterval is the time in which one place, reason and flow has at most one record.
	RecordInterval time.Duration `mapstructure:"record_interval"`

	// MaxRecordsPerSecond is the maximum number of log records of dropped packets in a second.
	MaxRecordsPerSecond int `mapstructure:"max_records_per_second"`

	// Metrics turns individual metrics on and off.
	Metrics DropsMetricsConfig `mapstructure:"metrics"`
}

// DropsMetricsConfig has the metrics of [metadata.MetricsConfig] that drops reports.
type DropsMetricsConfig struct {
	DropUnseen           metadata.NettapDropUnseenMetricConfig           `mapstructure:"nettap.drop.unseen"`
	PacketDropped        metadata.NettapPacketDroppedMetricConfig        `mapstructure:"nettap.packet.dropped"`
	ProcessPacketDropped metadata.NettapProcessPacketDroppedMetricConfig `mapstructure:"nettap.process.packet.dropped"`
	TCPReset             metadata.NettapTCPResetMetricConfig             `mapstructure:"nettap.tcp.reset"`
}

// AcceptsConfig is the block "accepts".
type AcceptsConfig struct {
	InstrumentConfig `mapstructure:",squash"`

	// MaxPerSecond is the maximum number of log records in a second; 0 is no limit.
	MaxPerSecond int `mapstructure:"max_per_second"`

	// Policy defines which accepted connections are expected. It does not drop or delay any.
	Policy PolicyConfig `mapstructure:"policy"`

	// Events turns individual events on and off.
	Events metadata.EventsConfig `mapstructure:"events"`
}

// The values of on_unsupported and traffic.namespaces.
const (
	onUnsupportedError = "error"
	onUnsupportedWarn  = "warn"

	namespacesHost = "host"
	namespacesAll  = "all"
)

// maxRecordsLimit keeps the records of a storm of drops below what their ring can hold.
const maxRecordsLimit = 500

// maxProcessesLimit keeps the kernel's maps below about 100 MB.
const maxProcessesLimit = 1 << 18

// defaultMaxCPU is explained in docs/cost.md.
const defaultMaxCPU percent = 5

// shortestInterval prevents a busy loop if the unit of an interval was forgotten, which would mean
// nanoseconds.
const shortestInterval = 10 * time.Millisecond

func createDefaultConfig() component.Config {
	metrics := metadata.DefaultMetricsConfig()
	return &Config{
		Traffic: TrafficConfig{
			InstrumentConfig: defaultInstrumentConfig(10 * time.Second),
			MaxProcesses:     4096,
			Namespaces:       namespacesHost,
			Metrics: TrafficMetricsConfig{
				InterfaceIO:                    metrics.NettapInterfaceIo,
				InterfacePacketCount:           metrics.NettapInterfacePacketCount,
				InterfaceUnobservedIO:          metrics.NettapInterfaceUnobservedIo,
				InterfaceUnobservedPacketCount: metrics.NettapInterfaceUnobservedPacketCount,
				ProcessNetworkPacketCount:      metrics.NettapProcessNetworkPacketCount,
				ProcessNetworkIO:               metrics.ProcessNetworkIo,
			},
		},
		Drops: DropsConfig{
			InstrumentConfig:    defaultInstrumentConfig(10 * time.Second),
			RecordInterval:      10 * time.Second,
			MaxRecordsPerSecond: 100,
			Metrics: DropsMetricsConfig{
				DropUnseen:    metrics.NettapDropUnseen,
				PacketDropped: metrics.NettapPacketDropped, ProcessPacketDropped: metrics.NettapProcessPacketDropped,
				TCPReset: metrics.NettapTCPReset,
			},
		},
		Accepts: AcceptsConfig{
			InstrumentConfig: defaultInstrumentConfig(time.Second),
			Policy:           PolicyConfig{Expect: []ExpectConfig{}},
			Events:           metadata.DefaultEventsConfig(),
		},
		Listeners:     defaultListenersConfig(),
		Connections:   defaultConnectionsConfig(),
		Calls:         defaultCallsConfig(),
		TraceContext:  defaultTraceContextConfig(),
		View:          defaultViewConfig(),
		OnUnsupported: onUnsupportedError,
		AvoidHooks:    []string{},
		MaxCPU:        defaultMaxCPU,
	}
}

func defaultInstrumentConfig(interval time.Duration) InstrumentConfig {
	return InstrumentConfig{
		Enabled:            true,
		CollectionInterval: interval,
		InitialDelay:       time.Second,
		ResourceAttributes: metadata.DefaultResourceAttributesConfig(),
	}
}

// Validate implements [go.opentelemetry.io/collector/confmap/xconfmap.Validator].
// It reports all mistakes at once, each by its key.
func (c *Config) Validate() error {
	errs := errors.Join(
		c.Traffic.validate("traffic"),
		c.Drops.InstrumentConfig.validate("drops"),
		c.Drops.validateRecords(),
		c.Accepts.InstrumentConfig.validate("accepts"),
		c.Accepts.Policy.validate(),
		c.Listeners.validate("listeners"),
		c.Connections.validate("connections"),
		c.Calls.validate(),
		c.TraceContext.validate(),
		c.View.validate(),
		c.MaxCPU.validate("max_cpu"),
		oneOf("traffic.namespaces", c.Traffic.Namespaces, namespacesHost, namespacesAll),
		oneOf("on_unsupported", c.OnUnsupported, onUnsupportedError, onUnsupportedWarn),
	)
	if n := c.Traffic.MaxProcesses; n <= 0 || n > maxProcessesLimit {
		errs = errors.Join(errs, fmt.Errorf("traffic.max_processes is %d, and must be from 1 to %d", n, maxProcessesLimit))
	}
	if n := c.Accepts.MaxPerSecond; n < 0 {
		errs = errors.Join(errs, fmt.Errorf("accepts.max_per_second is %d, and must be 0 (no limit) or more", n))
	}
	errs = errors.Join(errs, each("avoid_hooks", c.AvoidHooks, kernel.CheckHookName))
	if c.RootPath != "" && !filepath.IsAbs(c.RootPath) {
		errs = errors.Join(errs, fmt.Errorf("root_path is %q, and must be an absolute path", c.RootPath))
	}
	return errs
}

func (c *InstrumentConfig) validate(block string) error {
	var errs error
	if c.CollectionInterval < shortestInterval {
		errs = errors.Join(errs, fmt.Errorf("%s.collection_interval is %v, and must be at least %v", block, c.CollectionInterval, shortestInterval))
	}
	if c.InitialDelay < 0 {
		errs = errors.Join(errs, fmt.Errorf("%s.initial_delay is %v, and must be 0s or more", block, c.InitialDelay))
	}
	return errs
}

func (c *DropsConfig) validateRecords() error {
	var errs error
	if c.RecordInterval < 0 {
		errs = fmt.Errorf("drops.record_interval is %v, and must be 0s or more", c.RecordInterval)
	}
	if n := c.MaxRecordsPerSecond; n <= 0 || n > maxRecordsLimit {
		errs = errors.Join(errs, fmt.Errorf("drops.max_records_per_second is %d, and must be from 1 to %d", n, maxRecordsLimit))
	}
	return errs
}

func oneOf(key, value, first, second string) error {
	if value == first || value == second {
		return nil
	}
	return fmt.Errorf("%s is %q, and must be %q or %q", key, value, first, second)
}

func (c *TrafficConfig) metricsBuilderConfig() metadata.MetricsBuilderConfig {
	return metadata.MetricsBuilderConfig{
		Metrics: metadata.MetricsConfig{
			NettapInterfaceIo:                    c.Metrics.InterfaceIO,
			NettapInterfacePacketCount:           c.Metrics.InterfacePacketCount,
			NettapInterfaceUnobservedIo:          c.Metrics.InterfaceUnobservedIO,
			NettapInterfaceUnobservedPacketCount: c.Metrics.InterfaceUnobservedPacketCount,
			NettapProcessNetworkPacketCount:      c.Metrics.ProcessNetworkPacketCount,
			ProcessNetworkIo:                     c.Metrics.ProcessNetworkIO,
		},
		ResourceAttributes: c.ResourceAttributes,
	}
}

func (c *DropsConfig) metricsBuilderConfig() metadata.MetricsBuilderConfig {
	return metadata.MetricsBuilderConfig{
		Metrics: metadata.MetricsConfig{
			NettapDropUnseen:    c.Metrics.DropUnseen,
			NettapPacketDropped: c.Metrics.PacketDropped, NettapProcessPacketDropped: c.Metrics.ProcessPacketDropped,
			NettapTCPReset: c.Metrics.TCPReset,
		},
		ResourceAttributes: c.ResourceAttributes,
	}
}

func (c *AcceptsConfig) logsBuilderConfig() metadata.LogsBuilderConfig {
	return metadata.LogsBuilderConfig{Events: c.Events, ResourceAttributes: c.ResourceAttributes}
}
