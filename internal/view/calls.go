// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// keptCall is a call with its tree.
type keptCall struct {
	Call
	nodes []Node
}

// calls are the calls that are kept, oldest first.
type calls struct {
	all   []*keptCall
	nodes int
}

// rootAttribute is on the root span of each call, and on no other.
const rootAttribute = "nettap.call.kept"

// Calls takes what the instrument calls has delivered. The spans of a call follow one another,
// with the root first.
func (v *View) Calls(traces ptrace.Traces) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, resource := range traces.ResourceSpans().All() {
		p := v.processes.find(resource.Resource())
		for _, scope := range resource.ScopeSpans().All() {
			var tree []ptrace.Span
			for _, span := range scope.Spans().All() {
				if _, root := span.Attributes().Get(rootAttribute); root {
					v.call(p, tree)
					tree = nil
				}
				tree = append(tree, span)
			}
			v.call(p, tree)
		}
	}
	v.prune(v.now())
}

func (v *View) call(p *process, tree []ptrace.Span) {
	if len(tree) == 0 {
		return
	}
	if p == nil {
		v.leaveOut("calls")
		return
	}
	c := &keptCall{Call: callOf(tree[0], p), nodes: nodesOf(tree)}
	c.ID, c.Functions = v.newEventID(), len(tree)
	p.active = max(p.active, int64(c.AtMS))
	for len(v.calls.all) > 0 && (len(v.calls.all) >= maxCalls || v.calls.nodes+len(c.nodes) > maxNodes) {
		v.calls.dropOldest()
		v.leaveOut("calls")
	}
	v.calls.all = append(v.calls.all, c)
	v.calls.nodes += len(c.nodes)
	if v.watchers > 0 {
		v.fresh.calls = append(v.fresh.calls, c)
	}
}

func (cs *calls) dropOldest() {
	cs.nodes -= len(cs.all[0].nodes)
	cs.all[0] = nil
	cs.all = cs.all[1:]
}

func (cs *calls) prune(old int64) {
	for len(cs.all) > 0 && cs.all[0].AtMS < float64(old) {
		cs.dropOldest()
	}
}

// callOf returns the call that a root span describes.
func callOf(root ptrace.Span, p *process) Call {
	a := root.Attributes()
	c := Call{
		AtMS:       ms(root.StartTimestamp(), 0),
		DurationMS: ms(root.EndTimestamp(), root.StartTimestamp()),
		Name:       clean(root.Name()), Process: p.ID,
		Syscall: text(a, "nettap.call.syscall"), FD: wholeIfAny(a, "nettap.call.fd"),
		Thread: whole(a, "nettap.thread.id"), ThreadName: text(a, "thread.name"),
		Kept: text(a, rootAttribute), Error: text(a, "error.type"), BlockedOn: text(a, "nettap.call.blocked.on"),
		Bytes:     wholeIfAny(a, "nettap.call.bytes"),
		Transport: text(a, "network.transport"), Type: text(a, "network.type"),
		LostFunctions: whole(a, "nettap.call.lost_functions"),
		TraceID:       root.TraceID().String(), SpanID: root.SpanID().String(), ParentSpanID: root.ParentSpanID().String(),
	}
	c.CPUMS, _ = seconds(a, "nettap.call.cpu.duration")
	c.RunnableMS, _ = seconds(a, "nettap.call.runnable.duration")
	c.BlockedMS, _ = seconds(a, "nettap.call.blocked.duration")
	c.IdleMS, _ = seconds(a, "nettap.call.idle.duration")
	if kind := text(a, "nettap.wait.kind"); kind != "" {
		c.Wait = &Wait{Kind: kind}
		c.Wait.PeerMS, _ = seconds(a, "nettap.wait.peer.duration")
		c.Wait.LocalMS, _ = seconds(a, "nettap.wait.local.duration")
	}
	c.Local, c.Peer = endIfAny(a, "network.local"), endIfAny(a, "network.peer")
	return c
}

func endIfAny(attributes pcommon.Map, name string) *End {
	if end := endOf(attributes, name); end != (End{}) {
		return &end
	}
	return nil
}

// ms returns the time from since to moment in milliseconds.
func ms(moment, since pcommon.Timestamp) float64 {
	return float64(int64(moment-since)/1000) / 1000
}

func micros(moment, since pcommon.Timestamp) float64 {
	return float64(int64(moment)-int64(since)) / 1000
}

// nodesOf returns the tree of a call.
func nodesOf(tree []ptrace.Span) []Node {
	index := make(map[pcommon.SpanID]int, len(tree))
	began := tree[0].StartTimestamp()
	nodes := make([]Node, len(tree))
	for i, span := range tree {
		parent := -1
		if at, inside := index[span.ParentSpanID()]; inside {
			parent = at
		}
		index[span.SpanID()] = i
		a := span.Attributes()
		missed, known := a.Get("nettap.call.exit_missed")
		nodes[i] = Node{
			// the name of a root span is that of the operation
			Parent: parent, Name: clean(cmp.Or(text(a, "code.function.name"), span.Name())),
			StartUS: micros(span.StartTimestamp(), began), DurationUS: micros(span.EndTimestamp(), span.StartTimestamp()),
			Error: text(a, "error.type"), Errno: text(a, "nettap.call.errno"), BlockedOn: text(a, "nettap.call.blocked.on"),
			ExitMissed: known && missed.Bool(),
		}
		for _, event := range span.Events().All() {
			nodes[i].Events = append(nodes[i].Events, NodeEvent{Name: clean(event.Name()), AtUS: micros(event.Timestamp(), began)})
		}
	}
	return nodes
}
