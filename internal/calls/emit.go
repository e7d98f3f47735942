// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"cmp"
	"net/netip"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	conventions "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/plain"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// function is an element of the table to which the numbers of nodes refer.
type function struct {
	name  string // of the function or the tracepoint
	fails bool   // its results from -4095 to -1 are errors
}

// RootAttribute is on the root span of each call, and on no other.
const RootAttribute = "nettap.call.kept"

// emitter turns calls into traces.
type emitter struct {
	resource  metadata.ResourceAttributesConfig
	version   string // the receiver's
	functions []function
	ratio     float64 // the share of calls that is sampled, from 0 to 1
	describe  func(process.ID, process.Seen) process.Process
	service   func(process.ID) tracecontext.Service
	wall      func(bootNanos uint64) time.Time
	ids       ids
	stack     func(addresses []uint64) string // the names of functions, or "" if they cannot be read
}

// emit returns a trace for each call, on the resource of its process.
func (e *emitter) emit(calls []call) ptrace.Traces {
	traces := ptrace.NewTraces()
	for _, group := range byProcess(calls) {
		batch := traces.ResourceSpans().AppendEmpty()
		batch.SetSchemaUrl(conventions.SchemaURL)
		e.resourceOf(group[0]).MoveTo(batch.Resource())
		scope := batch.ScopeSpans().AppendEmpty()
		scope.Scope().SetName(metadata.ScopeName)
		scope.Scope().SetVersion(e.version)
		for _, c := range group {
			if c.wait.kind != 0 {
				e.wait(scope.Spans(), c)
			} else {
				e.tree(scope.Spans(), c)
			}
		}
	}
	return traces
}

// resourceOf returns the process of a call as a resource, with the service that the process
// publishes. If it publishes none, service.name is "unknown_service:" and its executable's name, as
// the semantic conventions say.
func (e *emitter) resourceOf(c call) pcommon.Resource {
	p := e.describe(c.process, c.seen)
	service := e.service(c.process)
	name := "unknown_service"
	if p.Executable != "" {
		name += ":" + p.Executable
	}
	builder := metadata.NewResourceBuilder(e.resource)
	builder.SetServiceName(plain.Text(cmp.Or(service.Name, name)))
	if service.InstanceID != "" {
		builder.SetServiceInstanceID(plain.Text(service.InstanceID))
	}
	if service.Namespace != "" {
		builder.SetServiceNamespace(plain.Text(service.Namespace))
	}
	return p.Resource(builder)
}

// tree appends the spans of a call: its root, then the others, each after its parent.
func (e *emitter) tree(spans ptrace.SpanSlice, c call) {
	trace, state := e.traceOf(c)
	began := e.wall(c.startNanos) // only once, so that all spans agree if the clock is set meanwhile
	ofNode := make([]ptrace.Span, len(c.nodes))
	for i, n := range c.nodes {
		if n.kind == ofTracepoint {
			e.event(ofNode[n.parent].Events(), began, n)
			continue
		}
		span := e.span(spans, trace, state)
		ofNode[i] = span
		span.SetStartTimestamp(timestamp(began, n.start))
		span.SetEndTimestamp(timestamp(began, n.start+n.duration))
		if n.parent >= 0 {
			span.SetParentSpanID(ofNode[n.parent].SpanID())
		}
		e.describeNode(span, n)
	}
	relate(ofNode[0], c.context)
	e.describeRoot(ofNode[0], c)
}

// span appends a span without times.
func (e *emitter) span(spans ptrace.SpanSlice, trace pcommon.TraceID, state string) ptrace.Span {
	span := spans.AppendEmpty()
	span.SetTraceID(trace)
	span.SetSpanID(e.ids.span())
	span.TraceState().FromRaw(state)
	span.SetFlags(sampledAtRandom)
	span.SetKind(ptrace.SpanKindInternal)
	return span
}

// wait appends the span of a wait that is not inside a call. It is a root without children.
func (e *emitter) wait(spans ptrace.SpanSlice, c call) {
	trace, state := e.traceOf(c)
	span := e.span(spans, trace, state)
	began := e.wall(c.startNanos)
	span.SetName(kindNames[c.wait.kind])
	span.SetStartTimestamp(timestamp(began, 0))
	span.SetEndTimestamp(timestamp(began, c.duration))
	relate(span, c.context)
	attributes := span.Attributes()
	attributes.PutStr("nettap.wait.kind", kindNames[c.wait.kind])
	if c.wait.flags&bpfWaitFlagWAIT_GIVEN_UP != 0 {
		attributes.PutStr("error.type", givenUp)
		span.Status().SetCode(ptrace.StatusCodeError)
	} else if putError(attributes, c.result) {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
	if c.wait.flags&bpfWaitFlagWAIT_HAS_PEER != 0 {
		attributes.PutDouble("nettap.wait.peer.duration", c.wait.peer.Seconds())
	}
	if c.wait.flags&bpfWaitFlagWAIT_HAS_LOCAL != 0 {
		attributes.PutDouble("nettap.wait.local.duration", c.wait.local.Seconds())
	}
	describeCaller(attributes, c)
	if c.fd >= 0 {
		attributes.PutInt("nettap.call.fd", int64(c.fd))
	}
	putSocket(attributes, c)
}

// givenUp is the error.type of a wait that the program has ended by closing the socket.
const givenUp = "given_up"

// traceOf returns the trace to which a call belongs: the trace of the span that caused it,
// or a trace of its own.
func (e *emitter) traceOf(c call) (id pcommon.TraceID, state string) {
	if c.context.Source != tracecontext.None && !c.context.Link {
		return c.context.TraceID, ""
	}
	var threshold uint64
	if c.reason == bpfReasonREASON_SAMPLED && e.ratio < 1 {
		threshold = thresholdOf(e.ratio)
		state = traceState(threshold)
	}
	return e.ids.trace(threshold), state
}

// relate gives the root of a call its parent or link: the span of the application to which
// it belongs.
func relate(root ptrace.Span, context tracecontext.Context) {
	if context.Source == tracecontext.None {
		return
	}
	root.Attributes().PutStr("nettap.trace_context.source", context.Source.String())
	if !context.Link {
		root.SetParentSpanID(context.SpanID)
		return
	}
	link := root.Links().AppendEmpty()
	link.SetTraceID(context.TraceID)
	link.SetSpanID(context.SpanID)
}

// sampledAtRandom are the W3C trace flags of a trace that is kept and whose id is random.
const sampledAtRandom = 0x03

func timestamp(began time.Time, since time.Duration) pcommon.Timestamp {
	return pcommon.NewTimestampFromTime(began.Add(since))
}

func (e *emitter) event(events ptrace.SpanEventSlice, began time.Time, n node) {
	event := events.AppendEmpty()
	event.SetName(e.functions[n.function].name)
	event.SetTimestamp(timestamp(began, n.start))
}

// describeNode sets the attributes that every span has.
func (e *emitter) describeNode(span ptrace.Span, n node) {
	attributes := span.Attributes()
	if n.kind == offCPU {
		span.SetName("off_cpu")
		if n.duration > n.runnable {
			attributes.PutStr("nettap.call.blocked.on", waitNames[n.wait])
		}
		attributes.PutDouble("nettap.call.runnable.duration", min(n.runnable, n.duration).Seconds())
	} else {
		f := e.functions[n.function]
		span.SetName(f.name)
		attributes.PutStr("code.function.name", f.name)
		if f.fails && n.parent >= 0 && !n.missed {
			putError(attributes, int64(n.result))
		}
	}
	if n.missed {
		attributes.PutBool("nettap.call.exit_missed", true)
	}
}

// putError sets the error of a result, and returns whether it is a failure.
func putError(attributes pcommon.Map, result int64) bool {
	number, ok := errnoOf(result)
	if !ok {
		return false
	}
	if !isFailure(number) {
		attributes.PutStr("nettap.call.errno", errnoName(number))
		return false
	}
	attributes.PutStr("error.type", errnoName(number))
	return true
}

// putResult sets the error with which a call ended, and returns whether that is a failure.
func putResult(attributes pcommon.Map, c call) bool {
	if number, ok := errnoOf(c.result); ok && c.expected {
		attributes.PutStr("nettap.call.errno", errnoName(number))
		return false
	}
	return putError(attributes, c.result)
}

// describeRoot sets the attributes that only a root has.
func (e *emitter) describeRoot(span ptrace.Span, c call) {
	root := c.nodes[0]
	attributes := span.Attributes()
	span.SetName(nameOf(c, e.functions[root.function].name))
	if e.functions[root.function].fails && !root.missed && putResult(attributes, c) {
		span.Status().SetCode(ptrace.StatusCodeError)
	}
	describeCaller(attributes, c)
	putOperation(attributes, c, e.functions[c.nodes[0].function].name)
	putSocket(attributes, c)
	putTimes(attributes, c)
	if stack := e.stack(c.stack); stack != "" {
		attributes.PutStr("code.stacktrace", stack)
	}
	if c.rootOnly {
		attributes.PutBool("nettap.call.root_only", true)
	}
	if c.lostNodes > 0 {
		attributes.PutBool("nettap.call.truncated", true)
		attributes.PutInt("nettap.call.lost_functions", int64(c.lostNodes))
	}
	if c.missedExits > 0 {
		attributes.PutInt("nettap.call.missed_exits", int64(c.missedExits))
	}
}

// describeCaller sets the attributes that say why a call is reported and which thread made it.
func describeCaller(attributes pcommon.Map, c call) {
	attributes.PutStr(RootAttribute, keptNames[c.reason])
	attributes.PutInt("nettap.thread.id", int64(c.threadID))
	putText(attributes, "thread.name", c.threadName)
}

func putOperation(attributes pcommon.Map, c call, function string) {
	if c.syscall >= 0 {
		attributes.PutStr("nettap.call.syscall", syscallName(c.syscall))
		if c.fd >= 0 && c.result >= 0 && !c.nodes[0].missed && movesBytes(c.syscall, function) {
			attributes.PutInt("nettap.call.bytes", c.result)
		}
	}
	if c.fd >= 0 {
		attributes.PutInt("nettap.call.fd", int64(c.fd))
	}
}

func putSocket(attributes pcommon.Map, c call) {
	putEnd(attributes, "network.local", c.local)
	putEnd(attributes, "network.peer", c.peer)
	switch c.path.end {
	case bpfPathEndPATH_OF_LOCAL:
		putText(attributes, "network.local.address", c.path.name)
	case bpfPathEndPATH_OF_PEER:
		putText(attributes, "network.peer.address", c.path.name)
	}
	putText(attributes, "network.transport", c.networkTransport())
	putText(attributes, "network.type", c.networkType())
	if c.netnsInode != 0 {
		attributes.PutInt("nettap.netns.inode", int64(c.netnsInode))
	}
}

func putEnd(attributes pcommon.Map, name string, end netip.AddrPort) {
	if end.IsValid() {
		attributes.PutStr(name+".address", end.Addr().String())
	}
	if end.Port() != 0 {
		attributes.PutInt(name+".port", int64(end.Port()))
	}
}

func putTimes(attributes pcommon.Map, c call) {
	attributes.PutDouble("nettap.call.cpu.duration", c.onCPU().Seconds())
	attributes.PutDouble("nettap.call.runnable.duration", c.runnable.Seconds())
	attributes.PutDouble("nettap.call.blocked.duration", c.blockedTime().Seconds())
	putText(attributes, "nettap.call.blocked.on", c.blockedOn())
	if c.idle > 0 {
		attributes.PutDouble("nettap.call.idle.duration", c.idle.Seconds())
	}
}

func putText(attributes pcommon.Map, name, value string) {
	if value != "" {
		attributes.PutStr(name, plain.Text(value))
	}
}
