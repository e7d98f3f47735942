// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"slices"
	"time"
)

// Options are what the configuration says of trace contexts.
type Options struct {
	Sources       []Source
	HeadBytes     int           // of an HTTP message that are looked at
	TraceIDLabel  string        // key of the pprof label, at most [MaxLabel] bytes
	SpanIDLabel   string        // likewise
	OBIMap        string        // where OBI's map is pinned
	SocketTTL     time.Duration // how long a context is remembered with its socket
	InboundParent bool          // what a received head says is believed to be the cause
	OutboundLink  bool          // what a process says of itself, and sends, is not believed to be the cause
	LateBind      time.Duration // how long an accepted connection waits for its first context; 0 is not at all
	IgnoredPID    uint32        // whose messages are not looked at: the Collector's
	PIDs          []uint32      // whose memory may be read; none is all
	Commands      []string      // likewise
	AvoidHooks    []string      // as in kernel.Avoiding

	// Warn says what a person should know of a process, once; Inform what has come or
	// gone as it should.
	Warn, Inform func(message string)

	// Work does what is done beside the instruments: it is called with that, and calls it;
	// nil does the same.
	Work func(work func())
}

// What the kernel side has room for.
const (
	MaxHeadBytes = 4096
	MaxLabel     = 16
)

// has says whether a source is wanted.
func (o Options) has(s Source) bool { return slices.Contains(o.Sources, s) }
