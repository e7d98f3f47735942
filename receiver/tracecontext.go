// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// TraceContextConfig is the block "trace_context": how calls, accepts and drops are related to the
// span of the application that they belong to.
type TraceContextConfig struct {
	// Sources are the sources of contexts that are used. Their order does not matter: if
	// several have a context it is always the same one that decides. With an empty list
	// nothing is read.
	Sources []string `mapstructure:"sources"`

	// Inbound sets how a call is related to the span of a request that it received: by a
	// "link", because anyone may have chosen the ids, or as its child, "parent".
	Inbound string `mapstructure:"inbound"`

	// Outbound sets how the calls of a process are related to a span whose ids the process
	// sends or publishes: as its children, "parent", or by a "link" on machines whose users do
	// not trust each other, because anyone who knows the ids of a span can use them.
	Outbound string `mapstructure:"outbound"`

	// Unsampled sets whether calls are reported whose parent is a span that is not recorded:
	// "drop" or "keep".
	Unsampled string `mapstructure:"unsampled"`

	// LateBind is how long the record of an accepted connection waits for the first context on
	// it; 0 means not at all.
	LateBind time.Duration `mapstructure:"late_bind"`

	// HTTP is about the source "http": the traceparent of requests.
	HTTP HTTPContextConfig `mapstructure:"http"`

	// GoLabels is about the source "go_labels": pprof labels of goroutines.
	GoLabels GoLabelsContextConfig `mapstructure:"go_labels"`

	// OBI is about the source "obi": OpenTelemetry eBPF Instrumentation.
	OBI OBIContextConfig `mapstructure:"obi"`

	// Socket is about the source "socket": what a connection was used for before.
	Socket SocketContextConfig `mapstructure:"socket"`

	// Filter selects the processes whose memory may be read.
	Filter TraceContextFilterConfig `mapstructure:"filter"`
}

// HTTPContextConfig is the block "trace_context.http".
type HTTPContextConfig struct {
	// HeadBytes is how much of a message is searched.
	HeadBytes int `mapstructure:"head_bytes"`
}

// GoLabelsContextConfig is the block "trace_context.go_labels".
type GoLabelsContextConfig struct {
	// TraceIDKey is the key of the pprof label with the trace's id in hex.
	TraceIDKey string `mapstructure:"trace_id_key"`

	// SpanIDKey is the key of the pprof label with the span's id in hex.
	SpanIDKey string `mapstructure:"span_id_key"`
}

// OBIContextConfig is the block "trace_context.obi".
type OBIContextConfig struct {
	// Map is where OBI pins the map of its contexts.
	Map string `mapstructure:"map"`
}

// SocketContextConfig is the block "trace_context.socket".
type SocketContextConfig struct {
	// TTL is how long a context is remembered for a socket.
	TTL time.Duration `mapstructure:"ttl"`
}

// TraceContextFilterConfig is the block "trace_context.filter". An empty list lets all processes
// through.
type TraceContextFilterConfig struct {
	PIDs     []int    `mapstructure:"pids"`     // ids of processes
	Commands []string `mapstructure:"commands"` // of the thread group leader, as in /proc/PID/comm
}

// The values of trace_context.inbound, trace_context.outbound and trace_context.unsampled.
const (
	inboundLink   = "link"
	inboundParent = "parent"

	outboundParent = "parent"
	outboundLink   = "link"

	unsampledDrop = "drop"
	unsampledKeep = "keep"
)

// longestBind bounds the delay of a record of an accept.
const longestBind = time.Minute

func defaultTraceContextConfig() TraceContextConfig {
	config := TraceContextConfig{
		Inbound:   inboundLink,
		Outbound:  outboundParent,
		Unsampled: unsampledDrop,
		LateBind:  500 * time.Millisecond,
		HTTP:      HTTPContextConfig{HeadBytes: 2048},
		GoLabels:  GoLabelsContextConfig{TraceIDKey: "trace_id", SpanIDKey: "span_id"},
		OBI:       OBIContextConfig{Map: "/sys/fs/bpf/otel/traces_ctx_v1"},
		Socket:    SocketContextConfig{TTL: 30 * time.Second},
	}
	for s := tracecontext.HTTP; s <= tracecontext.Socket; s++ {
		config.Sources = append(config.Sources, s.String())
	}
	return config
}

func (c *TraceContextConfig) validate() error {
	const block = "trace_context."
	errs := errors.Join(
		each(block+"sources", c.Sources, func(name string) error {
			_, err := tracecontext.SourceOf(name)
			return err
		}),
		oneOf(block+"inbound", c.Inbound, inboundLink, inboundParent),
		oneOf(block+"outbound", c.Outbound, outboundParent, outboundLink),
		oneOf(block+"unsampled", c.Unsampled, unsampledDrop, unsampledKeep),
		each(block+"filter.pids", c.Filter.PIDs, within(1, math.MaxInt32)),
		each(block+"filter.commands", c.Filter.Commands, checkCommand),
		checkLabel(block+"go_labels.trace_id_key", c.GoLabels.TraceIDKey),
		checkLabel(block+"go_labels.span_id_key", c.GoLabels.SpanIDKey),
	)
	if c.LateBind < 0 || c.LateBind > longestBind {
		errs = errors.Join(errs, fmt.Errorf(block+"late_bind is %v, and must be from 0s to %v", c.LateBind, longestBind))
	}
	if n := c.HTTP.HeadBytes; n < 128 || n > tracecontext.MaxHeadBytes {
		errs = errors.Join(errs, fmt.Errorf(block+"http.head_bytes is %d, and must be from 128 to %d", n, tracecontext.MaxHeadBytes))
	}
	if !filepath.IsAbs(c.OBI.Map) {
		errs = errors.Join(errs, fmt.Errorf(block+"obi.map is %q, and must be an absolute path", c.OBI.Map))
	}
	if c.Socket.TTL <= 0 {
		errs = errors.Join(errs, fmt.Errorf(block+"socket.ttl is %v, and must be above 0s", c.Socket.TTL))
	}
	return errs
}

func checkLabel(key, label string) error {
	if label == "" || len(label) > tracecontext.MaxLabel {
		return fmt.Errorf("%s is %q, and must have from 1 to %d bytes", key, label, tracecontext.MaxLabel)
	}
	return nil
}

func checkCommand(command string) error {
	if command == "" || len(command) > calls.MaxCommand {
		return fmt.Errorf("%q is no command: the kernel has 1 to %d bytes of it", command, calls.MaxCommand)
	}
	return nil
}

// traceContextOptions returns the options of trace contexts from a valid configuration.
func (c *Config) traceContextOptions() tracecontext.Options {
	t := c.TraceContext
	options := tracecontext.Options{
		HeadBytes:     t.HTTP.HeadBytes,
		TraceIDLabel:  t.GoLabels.TraceIDKey,
		SpanIDLabel:   t.GoLabels.SpanIDKey,
		OBIMap:        t.OBI.Map,
		SocketTTL:     t.Socket.TTL,
		InboundParent: t.Inbound == inboundParent,
		OutboundLink:  t.Outbound == outboundLink,
		LateBind:      t.LateBind,
		IgnoredPID:    uint32(os.Getpid()),
		PIDs:          numbers[uint32](t.Filter.PIDs),
		Commands:      t.Filter.Commands,
		AvoidHooks:    c.AvoidHooks,
	}
	for _, name := range t.Sources {
		if source, err := tracecontext.SourceOf(name); err == nil {
			options.Sources = append(options.Sources, source)
		}
	}
	return options
}
