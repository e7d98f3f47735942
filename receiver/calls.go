// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

// CallsConfig is the block "calls".
type CallsConfig struct {
	InstrumentConfig `mapstructure:",squash"`

	// MinDuration is the duration from which a call is kept as slow; 0 keeps all calls.
	MinDuration time.Duration `mapstructure:"min_duration"`

	// SampleRatio is the share of the other calls that is kept, from 0 to 1.
	SampleRatio float64 `mapstructure:"sample_ratio"`

	// MaxPerSecond is how many trees a second are made, shared by reason and by process; 0 is no limit.
	MaxPerSecond int `mapstructure:"max_per_second"`

	// IdleWaits lets the time that a thread waits for work count as duration.
	IdleWaits bool `mapstructure:"idle_waits"`

	// Errors selects the failed calls that are kept, however short they are: "unexpected" (all
	// except those that a program has to expect, as when it connects to a Unix socket that
	// does not exist), "always", "never", or those that failed with one of these errors
	// ("ECONNREFUSED").
	Errors []string `mapstructure:"errors"`

	// OffCPU reports each time that a thread was off the CPU during a call as a span.
	OffCPU bool `mapstructure:"off_cpu"`

	// Waits reports the waits of programs that use sockets in non-blocking mode: for a
	// connection, an answer or room to send, each of which begins in one call and ends in
	// another. It also reports how long received data waited for its program.
	Waits bool `mapstructure:"waits"`

	// Metrics turns individual metrics on and off.
	Metrics CallsMetricsConfig `mapstructure:"metrics"`

	// Functions are the kernel functions that a tree consists of: "net/socket.c" stands for
	// all functions of that file, others are given by name or pattern, such as "tcp_*".
	Functions []string `mapstructure:"functions"`

	// Filter selects the calls that are observed.
	Filter CallsFilterConfig `mapstructure:"filter"`
}

// CallsMetricsConfig has the metrics of [metadata.MetricsConfig] that calls reports.
type CallsMetricsConfig struct {
	SocketWaitDuration metadata.NettapSocketWaitDurationMetricConfig `mapstructure:"nettap.socket.wait.duration"`
}

func (c *CallsConfig) metricsBuilderConfig() metadata.MetricsBuilderConfig {
	return metadata.MetricsBuilderConfig{
		Metrics:            metadata.MetricsConfig{NettapSocketWaitDuration: c.Metrics.SocketWaitDuration},
		ResourceAttributes: c.ResourceAttributes,
	}
}

// CallsFilterConfig is the block "calls.filter". An empty list lets everything through. A call has
// to match each list, where cgroups and containers count as one list.
type CallsFilterConfig struct {
	PIDs       []int    `mapstructure:"pids"`       // ids of processes
	Commands   []string `mapstructure:"commands"`   // of the thread group leader, as in /proc/PID/comm
	Users      []int    `mapstructure:"users"`      // real user ids
	Cgroups    []string `mapstructure:"cgroups"`    // with all below, as "/system.slice/nginx.service"
	Containers []string `mapstructure:"containers"` // their ids
	Syscalls   []string `mapstructure:"syscalls"`   // names, as "connect"
	Addresses  []string `mapstructure:"addresses"`  // of either end, as "10.0.0.0/8" or "::1"
	Ports      []int    `mapstructure:"ports"`      // of either end
}

// The keywords of calls.errors. Other values are names of errors.
const (
	errorsUnexpected = "unexpected"
	errorsAlways     = "always"
	errorsNever      = "never"
)

func defaultCallsConfig() CallsConfig {
	return CallsConfig{
		InstrumentConfig: defaultInstrumentConfig(time.Second),
		MinDuration:      time.Millisecond,
		SampleRatio:      0.01,
		MaxPerSecond:     100,
		Errors:           []string{errorsUnexpected},
		Waits:            true,
		Functions:        []string{"net/socket.c"},
		Metrics:          CallsMetricsConfig{SocketWaitDuration: metadata.DefaultMetricsConfig().NettapSocketWaitDuration},
	}
}

func (c *CallsConfig) validate() error {
	errs := errors.Join(c.InstrumentConfig.validate("calls"), c.validateErrors(), c.Filter.validate())
	if c.MinDuration < 0 {
		errs = errors.Join(errs, fmt.Errorf("calls.min_duration is %v, and must be 0s or more", c.MinDuration))
	}
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) { // false for NaN
		errs = errors.Join(errs, fmt.Errorf("calls.sample_ratio is %v, and must be from 0 to 1", c.SampleRatio))
	}
	if c.MaxPerSecond < 0 {
		errs = errors.Join(errs, fmt.Errorf("calls.max_per_second is %d, and must be 0 (no limit) or more", c.MaxPerSecond))
	}
	if c.Metrics.SocketWaitDuration.Enabled && !c.Waits {
		errs = errors.Join(errs, errors.New("calls.metrics.nettap.socket.wait.duration is enabled, and needs calls.waits"))
	}
	if len(c.Functions) == 0 {
		errs = errors.Join(errs, errors.New("calls.functions is empty, and must name functions"))
	}
	return errors.Join(errs, each("calls.functions", c.Functions, calls.CheckFunctionPattern))
}

func (c *CallsConfig) validateErrors() error {
	if len(c.Errors) == 1 && slices.Contains([]string{errorsUnexpected, errorsAlways, errorsNever}, c.Errors[0]) {
		return nil
	}
	if len(c.Errors) == 0 {
		return fmt.Errorf("calls.errors is empty, and must be %q, %q, %q or names of errors", errorsUnexpected, errorsAlways, errorsNever)
	}
	return each("calls.errors", c.Errors, func(name string) error {
		if _, ok := calls.ErrnoNumber(name); !ok {
			return fmt.Errorf("%q is no name of an error: want names as ECONNREFUSED, or %q, %q or %q alone", name, errorsUnexpected, errorsAlways, errorsNever)
		}
		return nil
	})
}

func (f *CallsFilterConfig) validate() error {
	return errors.Join(
		each("calls.filter.pids", f.PIDs, within(1, math.MaxInt32)),
		each("calls.filter.commands", f.Commands, checkCommand),
		each("calls.filter.users", f.Users, within(0, math.MaxUint32-1)),
		each("calls.filter.cgroups", f.Cgroups, func(cgroup string) error {
			if !path.IsAbs(cgroup) || path.Clean(cgroup) != cgroup {
				return fmt.Errorf("%q is no path below the root of cgroup2, as /system.slice", cgroup)
			}
			return nil
		}),
		each("calls.filter.containers", f.Containers, checkContainer),
		each("calls.filter.syscalls", f.Syscalls, calls.CheckSyscall),
		each("calls.filter.addresses", f.Addresses, func(text string) error {
			_, err := parsePrefix(text)
			return err
		}),
		each("calls.filter.ports", f.Ports, within(1, math.MaxUint16)),
	)
}

func checkContainer(id string) error {
	if id == "" || strings.ContainsAny(id, "/ ") {
		return fmt.Errorf("%q is no id of a container", id)
	}
	return nil
}

// each returns the errors that check returns for the values of a list.
func each[T any](key string, values []T, check func(T) error) error {
	var errs error
	for i, value := range values {
		if err := check(value); err != nil {
			errs = errors.Join(errs, fmt.Errorf("%s[%d]: %w", key, i, err))
		}
	}
	return errs
}

func within(lowest, highest int64) func(int) error {
	return func(n int) error {
		if int64(n) < lowest || int64(n) > highest {
			return fmt.Errorf("%d is not from %d to %d", n, lowest, highest)
		}
		return nil
	}
}

// parsePrefix parses a prefix such as "10.0.0.0/8", or an address, which becomes a prefix of its
// whole length.
func parsePrefix(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96).Masked(), nil
	} else if err == nil {
		return prefix.Masked(), nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is no address, nor one with the length of a prefix, as 10.0.0.0/8", text)
	}
	address = address.Unmap()
	return netip.PrefixFrom(address, address.BitLen()), nil
}

// callsOptions returns the options of calls from a valid configuration.
func (c *Config) callsOptions() calls.Options {
	f := c.Calls.Filter
	return calls.Options{
		RootPath:     c.RootPath,
		MinDuration:  c.Calls.MinDuration,
		SampleRatio:  c.Calls.SampleRatio,
		MaxPerSecond: c.Calls.MaxPerSecond,
		IdleWaits:    c.Calls.IdleWaits,
		OffCPU:       c.Calls.OffCPU,
		Waits:        c.Calls.Waits,
		Durations:    c.Calls.Metrics.SocketWaitDuration.Enabled,
		FollowAll:    !slices.Equal(c.Calls.Functions, defaultCallsConfig().Functions),
		Errors:       c.Calls.errnos(),
		Functions:    c.Calls.Functions,
		AvoidHooks:   c.AvoidHooks,

		KeepUnsampled: c.TraceContext.Unsampled == unsampledKeep,
		Filter: calls.Filter{
			PIDs:       numbers[uint32](f.PIDs),
			Commands:   f.Commands,
			Users:      numbers[uint32](f.Users),
			Cgroups:    f.Cgroups,
			Containers: f.Containers,
			Syscalls:   f.Syscalls,
			Prefixes:   prefixes(f.Addresses),
			Ports:      numbers[uint16](f.Ports),
		},
	}
}

func (c *CallsConfig) errnos() calls.Errnos {
	switch {
	case slices.Contains(c.Errors, errorsUnexpected):
		return calls.Errnos{Unexpected: true}
	case slices.Contains(c.Errors, errorsAlways):
		return calls.Errnos{All: true}
	}
	var errnos calls.Errnos
	for _, name := range c.Errors {
		if number, ok := calls.ErrnoNumber(name); ok { // "never" has no number
			errnos.Numbers = append(errnos.Numbers, number)
		}
	}
	return errnos
}

func numbers[T uint16 | uint32](values []int) []T {
	var converted []T
	for _, n := range values {
		converted = append(converted, T(n))
	}
	return converted
}
