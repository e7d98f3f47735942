// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

var boot = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// testEmitter returns an emitter that makes the same ids in each run.
func testEmitter() *emitter {
	wall := func(bootNanos uint64) time.Time { return boot.Add(time.Duration(bootNanos)) }
	return &emitter{
		resource:  metadata.DefaultResourceAttributesConfig(),
		version:   "1.2.3",
		functions: functions,
		ratio:     0.01,
		describe: func(id process.ID, seen process.Seen) process.Process {
			return process.Process{
				ID: id, HostID: "h1", Created: wall(id.StartNanos), Comm: seen.Comm, Executable: seen.Executable,
			}
		},
		service: func(process.ID) tracecontext.Service { return tracecontext.Service{} },
		stack: func(addresses []uint64) string {
			return strings.Join(kernel.Stack(addresses, func(address uint64) kernel.Location {
				return map[uint64]kernel.Location{1: {Function: "wait_woken", Offset: 200}}[address]
			}), "\n")
		},
		wall: wall,
		ids:  ids{rand.New(rand.NewChaCha8([32]byte{1}))},
	}
}

func TestEmit(t *testing.T) {
	refused := call{
		process: nginx, seen: process.Seen{Comm: "nginx"}, threadID: 71, startNanos: 5_500_000_000, duration: 2_000,
		syscall: -1, fd: -1, result: -111, family: familyUnix, lostNodes: 3, missedExits: 1, rootOnly: true, reason: bpfReasonREASON_FAILED,
		nodes: []node{
			{function: 2, parent: -1, duration: 2_000, result: -111},
			{function: 1, parent: 0, start: 1_000, duration: 1_000, missed: true, result: 0},
		},
	}
	absent := refused
	absent.fd, absent.syscall, absent.result, absent.expected = 5, number("connect"), -2, true
	absent.path, absent.reason = socketPath{bpfPathEndPATH_OF_PEER, "/run/\x1bnscd"}, bpfReasonREASON_SLOW
	absent.stack = []uint64{1, 0xabc}
	taken := refused
	taken.fd, taken.syscall, taken.result, taken.path = 5, number("bind"), -98, socketPath{bpfPathEndPATH_OF_LOCAL, "@name"}
	later := decodedCall()
	later.startNanos, later.reason, later.nodes = 6_000_000_000, bpfReasonREASON_SAMPLED, later.nodes[:1]

	compact, err := (&ptrace.JSONMarshaler{}).MarshalTraces(testEmitter().emit([]call{decodedCall(), refused, absent, taken, later}))
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "calls.json", compact)
}

// TestEmitWaits compares a wait of each kind. One of them has failed and one was given up.
func TestEmitWaits(t *testing.T) {
	answer := decodedCall()
	answer.syscall, answer.result, answer.nodes = -1, 0, nil
	answer.wait = wait{
		kind: bpfSocketWaitSOCKET_WAIT_RECEIVE, flags: bpfWaitFlagWAIT_HAS_PEER | bpfWaitFlagWAIT_HAS_LOCAL,
		peer: 3 * time.Millisecond, local: time.Millisecond,
	}
	answer.context = tracecontext.Context{Source: tracecontext.HTTP, TraceID: pcommon.TraceID{7}, SpanID: pcommon.SpanID{8}}
	request := answer
	request.context, request.wait.flags = tracecontext.Context{}, bpfWaitFlagWAIT_HAS_LOCAL
	refused := request
	refused.result, refused.reason = -111, bpfReasonREASON_FAILED
	refused.wait = wait{kind: bpfSocketWaitSOCKET_WAIT_CONNECT}
	givenUp := refused
	givenUp.result, givenUp.wait.flags = -110, bpfWaitFlagWAIT_GIVEN_UP
	room := request
	room.reason, room.fd, room.wait = bpfReasonREASON_SAMPLED, -1, wait{kind: bpfSocketWaitSOCKET_WAIT_SEND}

	compact, err := (&ptrace.JSONMarshaler{}).MarshalTraces(testEmitter().emit([]call{answer, request, refused, givenUp, room}))
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "waits.json", compact)
}

func TestEmitNothing(t *testing.T) {
	if n := testEmitter().emit(nil).ResourceSpans().Len(); n != 0 {
		t.Errorf("emit() of nothing has %d resources", n)
	}
}

func TestEmitErrors(t *testing.T) {
	for name, test := range map[string]struct {
		result    int64
		fd        int
		root      node
		expected  bool
		want      map[string]any // of error.type, nettap.call.errno and nettap.call.bytes
		wantError bool
	}{
		"bytes":                      {result: 0, want: map[string]any{"nettap.call.bytes": int64(0)}},
		"work behind a call":         {result: 5, fd: -1, want: map[string]any{}},
		"a failure":                  {result: -104, want: map[string]any{"error.type": "ECONNRESET"}, wantError: true},
		"nothing there yet":          {result: -11, want: map[string]any{"nettap.call.errno": "EAGAIN"}},
		"it goes on by itself":       {result: -115, want: map[string]any{"nettap.call.errno": "EINPROGRESS"}},
		"a signal came first":        {result: -512, want: map[string]any{"nettap.call.errno": "ERESTARTSYS"}},
		"a failure that is no news":  {result: -107, expected: true, want: map[string]any{"nettap.call.errno": "ENOTCONN"}},
		"an error without a name":    {result: -4095, want: map[string]any{"error.type": "errno_4095"}, wantError: true},
		"too low a number":           {result: -4096, want: map[string]any{}},
		"a function that never does": {result: -104, root: node{function: 3}, want: map[string]any{}},
		"a result that nobody saw":   {result: -104, root: node{missed: true}, want: map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			test.root.parent = -1
			span := one(t, call{result: test.result, syscall: number("recvfrom"), fd: test.fd, expected: test.expected, reason: bpfReasonREASON_SLOW, nodes: []node{test.root}})[0]
			got := map[string]any{}
			for _, key := range []string{"error.type", "nettap.call.errno", "nettap.call.bytes"} {
				if value, ok := span.Attributes().Get(key); ok {
					got[key] = value.AsRaw()
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("attributes differ (-want +got):\n%s", diff)
			}
			if got := span.Status().Code() == ptrace.StatusCodeError; got != test.wantError {
				t.Errorf("status is %v", span.Status().Code())
			}
		})
	}
}

func TestEmitServiceName(t *testing.T) {
	for name, test := range map[string]struct {
		executable string
		disabled   bool
		want       any
	}{
		"the executable's":          {executable: "nginx", want: "unknown_service:nginx"},
		"of an unknown executable":  {want: "unknown_service"},
		"of one whose name is none": {executable: "a\xff", want: "unknown_service:a\uFFFD"},
		"not if it is turned off":   {executable: "nginx", disabled: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := testEmitter()
			e.resource.ServiceName.Enabled = !test.disabled
			c := decodedCall()
			c.seen.Executable = test.executable
			got := e.emit([]call{c}).ResourceSpans().At(0).Resource().Attributes().AsRaw()["service.name"]
			if got != test.want {
				t.Errorf("service.name = %v, want %v", got, test.want)
			}
		})
	}
}

func TestEmitService(t *testing.T) {
	e := testEmitter()
	e.service = func(process.ID) tracecontext.Service {
		return tracecontext.Service{Name: "checkout", InstanceID: "i-7", Namespace: "shop"}
	}
	attributes := e.emit([]call{decodedCall()}).ResourceSpans().At(0).Resource().Attributes().AsRaw()
	got := map[string]any{}
	for _, key := range []string{"service.name", "service.instance.id", "service.namespace"} {
		got[key] = attributes[key]
	}
	want := map[string]any{"service.name": "checkout", "service.instance.id": "i-7", "service.namespace": "shop"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes differ (-want +got):\n%s", diff)
	}
}

func TestEmitContext(t *testing.T) {
	type relation struct {
		trace      pcommon.TraceID // of the whole tree; empty: a trace of its own
		parent     pcommon.SpanID
		link       pcommon.SpanID
		source     any
		traceState string
	}
	trace, span := pcommon.TraceID{1, 15: 2}, pcommon.SpanID{3, 7: 4}
	for name, test := range map[string]struct {
		context tracecontext.Context
		want    relation
	}{
		"none is known": {want: relation{traceState: "ot=th:fd70a3d70a3d7"}},
		"a span of the application caused it": {
			context: tracecontext.Context{TraceID: trace, SpanID: span, Source: tracecontext.GoLabels, Sampled: true},
			want:    relation{trace: trace, parent: span, source: "go_labels"},
		},
		"a span is related": {
			context: tracecontext.Context{TraceID: trace, SpanID: span, Source: tracecontext.HTTP, Link: true},
			want:    relation{link: span, source: "http", traceState: "ot=th:fd70a3d70a3d7"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := decodedCall()
			c.reason, c.context = bpfReasonREASON_SAMPLED, test.context
			var spans []ptrace.Span
			for _, span := range all(testEmitter().emit([]call{c})) {
				spans = append(spans, span)
			}
			got := relation{parent: spans[0].ParentSpanID(), traceState: spans[0].TraceState().AsRaw()}
			if spans[0].TraceID() == test.want.trace {
				got.trace = spans[0].TraceID()
			}
			if source, ok := spans[0].Attributes().Get("nettap.trace_context.source"); ok {
				got.source = source.Str()
			}
			if spans[0].Links().Len() > 0 {
				got.link = spans[0].Links().At(0).SpanID()
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(relation{})); diff != "" {
				t.Errorf("the root's relation differs (-want +got):\n%s", diff)
			}
			for _, inside := range spans[1:] {
				if inside.TraceID() != spans[0].TraceID() || inside.ParentSpanID().IsEmpty() || inside.Links().Len() > 0 {
					t.Errorf("%s is not inside its root alone", inside.Name())
				}
			}
		})
	}
}

func TestEmitSampled(t *testing.T) {
	for name, test := range map[string]struct {
		ratio     float64
		reason    bpfReason
		wantState string
		threshold uint64
	}{
		"one in a hundred":               {ratio: 0.01, reason: bpfReasonREASON_SAMPLED, wantState: "ot=th:fd70a3d70a3d7", threshold: 0xfd70a3d70a3d70},
		"half":                           {ratio: 0.5, reason: bpfReasonREASON_SAMPLED, wantState: "ot=th:8", threshold: 1 << 55},
		"hardly any":                     {ratio: 1e-18, reason: bpfReasonREASON_SAMPLED, wantState: "ot=th:ffffffffffffff", threshold: randomness - 1},
		"all":                            {ratio: 1, reason: bpfReasonREASON_SAMPLED},
		"a slow one is kept in any case": {ratio: 0.01, reason: bpfReasonREASON_SLOW},
	} {
		t.Run(name, func(t *testing.T) {
			e := testEmitter()
			e.ratio = test.ratio
			c := decodedCall()
			c.reason = test.reason
			for _, span := range all(e.emit([]call{c, c, c})) {
				if got := span.TraceState().AsRaw(); got != test.wantState {
					t.Errorf("tracestate %q, want %q", got, test.wantState)
				}
				if got := randomnessOf(span.TraceID()); got < test.threshold {
					t.Errorf("the randomness of the trace id is %#x, below %#x", got, test.threshold)
				}
			}
		})
	}
}

func randomnessOf(id pcommon.TraceID) uint64 {
	var n uint64
	for _, b := range id[9:] {
		n = n<<8 | uint64(b)
	}
	return n
}

// FuzzEmit makes a call with a node for every three bytes: its parent, its kind, and how long it lasts.
func FuzzEmit(f *testing.F) {
	f.Add([]byte{0, 0, 200, 1, 0, 100, 1, 1, 50, 2, 2, 20, 0, 3, 9})
	f.Fuzz(func(t *testing.T, shape []byte) {
		c := call{duration: time.Hour, syscall: -1, fd: -1, reason: bpfReasonREASON_SAMPLED, nodes: []node{{parent: -1, duration: time.Hour}}}
		spans := 1
		for node := range slices.Chunk(shape[:min(len(shape)/3*3, 3*59)], 3) {
			n := nodeIn(c.nodes, node[0], node[1], node[2])
			if n.kind != ofTracepoint {
				spans++
			}
			c.nodes = append(c.nodes, n)
		}
		got := one(t, c)
		if len(got) != spans {
			t.Errorf("%d nodes, %d of them functions or off the CPU, became %d spans", len(c.nodes), spans, len(got))
		}
		checkTree(t, got)
	})
}

// nodeIn returns a node inside one of the nodes that are functions.
func nodeIn(nodes []node, parent, kindOf, part byte) node {
	in := int(parent) % len(nodes)
	for nodes[in].kind != ofFunction {
		in = nodes[in].parent
	}
	n := node{
		kind: kind(kindOf % 3), parent: in, function: int(kindOf) % len(functions), result: -int32(kindOf), missed: kindOf&8 != 0,
		start: nodes[in].start + nodes[in].duration*time.Duration(part)/512,
	}
	if n.kind != ofTracepoint {
		n.duration = nodes[in].duration * time.Duration(part) / 512
	}
	return n
}

// checkTree fails unless the spans are one tree, each within the time of its parent.
func checkTree(t *testing.T, spans []ptrace.Span) {
	t.Helper()
	known := map[pcommon.SpanID]ptrace.Span{}
	for i, span := range spans {
		if span.TraceID().IsEmpty() || span.TraceID() != spans[0].TraceID() {
			t.Errorf("span %d is of trace %v, the first of %v", i, span.TraceID(), spans[0].TraceID())
		}
		if _, twice := known[span.SpanID()]; twice || span.SpanID().IsEmpty() {
			t.Errorf("the id %v of span %d is none of its own", span.SpanID(), i)
		}
		known[span.SpanID()] = span
		parent, ok := known[span.ParentSpanID()] // a parent must come before its children
		if ok == (i == 0) {
			t.Errorf("the parent of span %d is %v", i, span.ParentSpanID())
		}
		if ok && (span.StartTimestamp() < parent.StartTimestamp() || span.EndTimestamp() > parent.EndTimestamp()) {
			t.Errorf("span %d is not within the time of its parent", i)
		}
		if span.EndTimestamp() < span.StartTimestamp() {
			t.Errorf("span %d ends before it starts", i)
		}
		for _, event := range span.Events().All() {
			if event.Timestamp() < span.StartTimestamp() || event.Timestamp() > span.EndTimestamp() {
				t.Errorf("an event is not within the time of span %d", i)
			}
		}
	}
}

// one returns the spans of one call.
func one(t *testing.T, c call) []ptrace.Span {
	t.Helper()
	var spans []ptrace.Span
	for _, span := range all(testEmitter().emit([]call{c})) {
		spans = append(spans, span)
	}
	return spans
}

// all returns each span with the resource it is on.
func all(traces ptrace.Traces) iter.Seq2[pcommon.Resource, ptrace.Span] {
	return func(yield func(pcommon.Resource, ptrace.Span) bool) {
		for _, resource := range traces.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					if !yield(resource.Resource(), span) {
						return
					}
				}
			}
		}
	}
}
