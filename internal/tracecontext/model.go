// SPDX-License-Identifier: Apache-2.0

// Package tracecontext finds out which span of an application a call, a message or a
// connection belongs to. Each receiver loads it once, and instruments share its maps.
// Kernel side: bpf/tracecontext.bpf.c and bpf/lib/context/.
package tracecontext

import (
	"fmt"
	"net/netip"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Source is where a context was found.
type Source uint8

// The sources, the most trusted one first.
//
// Kernel side: enum context_source in bpf/lib/context/context.h.
const (
	None       Source = iota
	HTTP              // the traceparent in the head of the message itself
	OTelThread        // what the thread publishes as OTEP 4947 says
	GoLabels          // the pprof labels of the goroutine
	OBI               // what OBI has for the thread
	Socket            // the last one of the same exchange on the socket
	sources
)

var sourceNames = [sources]string{"", "http", "otel_thread", "go_labels", "obi", "socket"}

// String returns the name that the configuration and the attribute nettap.trace_context.source
// use.
func (s Source) String() string {
	if s < sources {
		return sourceNames[s]
	}
	return fmt.Sprintf("source_%d", uint8(s))
}

// SourceOf returns the source with a name, or an error that lists the names.
func SourceOf(name string) (Source, error) {
	for s := HTTP; s < sources; s++ {
		if sourceNames[s] == name {
			return s, nil
		}
	}
	return None, fmt.Errorf("%q is no source of trace contexts: there are %q", name, sourceNames[HTTP:])
}

// Context is a span of an application. Its zero value is no span.
type Context struct {
	TraceID pcommon.TraceID
	SpanID  pcommon.SpanID
	Source  Source
	Link    bool // it is related, but not known to be the cause
	Sampled bool // its spans are recorded
}

// New returns the context in a record of the kernel side. A malformed one is an error.
//
// Kernel side: struct context in bpf/lib/context/context.h.
func New(traceID [16]uint8, spanID [8]uint8, source, link, sampled uint8) (Context, error) {
	c := Context{TraceID: traceID, SpanID: spanID, Source: Source(source), Link: link != 0, Sampled: sampled != 0}
	if c.Source == None {
		return Context{}, nil
	}
	if c.Source >= sources || c.TraceID.IsEmpty() || c.SpanID.IsEmpty() {
		return Context{}, fmt.Errorf("the trace context of %s has trace id %s and span id %s", c.Source, c.TraceID, c.SpanID)
	}
	return c, nil
}

// Connection is a TCP connection in its network namespace. An IPv4 address is never in the form of
// an IPv6 one.
type Connection struct {
	Local, Peer netip.AddrPort
	NetnsInode  uint32
}

// Service is what a process publishes about itself as OTEP 4719 says. A field that it does not
// publish is empty.
type Service struct {
	Name       string // service.name
	InstanceID string // service.instance.id
	Namespace  string // service.namespace
}

// Counts are the numbers of contexts that were found on messages, by source, and of those that
// were not, by cause.
type Counts struct {
	Found   map[string]uint64
	Refused map[string]uint64
}
