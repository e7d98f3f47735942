// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"slices"
	"time"

	"github.com/seed-7756021b/nettap/internal/places"
)

// Options is the configuration of trace contexts.
type Options struct {
	Sources       []Source
	HeadBytes     int           // how much of an HTTP message is searched
	TraceIDLabel  string        // key of the pprof label with the trace id, at most [MaxLabel] bytes
	SpanIDLabel   string        // the same for the span id
	OBIMap        string        // where OBI's map is pinned
	SocketTTL     time.Duration // how long a context is remembered for its socket
	InboundParent bool          // the context in a received head is taken for the cause
	OutboundLink  bool          // a context that a process publishes or sends is not taken for the cause
	// LateBind is how long an accepted connection waits for its first context; 0 means not at all.
	LateBind   time.Duration
	IgnoredPID uint32         // the process whose messages are ignored: the Collector's
	PIDs       []uint32       // the processes whose memory may be read; empty means all
	Commands   []string       // the same by command
	AvoidHooks []string       // as in kernel.Avoiding
	Places     *places.Places // that are started before the contexts; nil: none

	// Warn reports, once, what the user should know about a process. Inform reports what has
	// come or gone as expected.
	Warn, Inform func(message string)

	// Work is called with each piece of work that is done outside of the instruments, and has
	// to call it. nil calls it directly.
	Work func(work func())
}

// The limits of the kernel side.
const (
	MaxHeadBytes = 4096
	MaxLabel     = 16
)

// has reports whether a source is wanted.
func (o Options) has(s Source) bool { return slices.Contains(o.Sources, s) }

// SeesMessages reports whether the contexts of messages are looked for, and not only what threads publish.
func (o Options) SeesMessages() bool { return o.has(HTTP) || o.has(Socket) || o.LateBind != 0 }
