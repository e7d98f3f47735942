// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// drawn is a span as a backend shows it: its name, its parent's id, and how long it took.
type drawn struct {
	Name, Parent string
	Duration     time.Duration // in whole microseconds
}

// TestJaegerShowsTheSameTree asks Jaeger for a trace and compares it with what the distribution
// has written.
func TestJaegerShowsTheSameTree(t *testing.T) {
	port := freePort(t)
	backend := (&fleet{t: t}).addJaeger(port)
	s := servePython(t, "threads", "127.0.0.1", 0)
	c := StartWith(t, Options{
		Receivers: fmt.Sprintf(callsOnly, "min_duration: 0s, max_per_second: 0, off_cpu: true", s.address.Port()), Traces: true,
		Overlay: fmt.Sprintf(`
		exporters:
		  otlp_grpc: {endpoint: "127.0.0.1:%d", tls: {insecure: true}}
		service:
		  pipelines:
		    traces: {receivers: [nettap], exporters: [file/traces, otlp_grpc]}
		`, port),
	})
	s.visit(t, "", 0)
	var sent Span
	c.Wait("what the server sent is reported", func() bool {
		for _, span := range c.Spans(Attributes{"process.pid": s.pid, "nettap.call.syscall": "sendto"}) {
			sent = span
		}
		return sent.Attributes != nil
	})
	want := map[string]drawn{}
	for _, span := range c.KernelSpans(nil) {
		if span.TraceID() == sent.TraceID() {
			parent := ""
			if !span.ParentSpanID().IsEmpty() {
				parent = span.ParentSpanID().String()
			}
			took := span.EndTimestamp().AsTime().Sub(span.StartTimestamp().AsTime())
			want[span.SpanID().String()] = drawn{span.Name(), parent, took.Truncate(time.Microsecond)}
		}
	}
	var got map[string]drawn
	c.Wait("Jaeger has the trace", func() bool {
		got = backend.shown(sent.TraceID().String())
		return len(got) == len(want)
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the tree in Jaeger differs (-want +got):\n%s", diff)
	}
}

// shown asks Jaeger's API for a trace and returns its spans, or nil while Jaeger does not have it.
func (b jaegerBackend) shown(trace string) map[string]drawn {
	response, err := http.Get(b.api + "/traces/" + trace)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	var answer struct {
		Data []struct {
			Spans []struct {
				SpanID, OperationName string
				References            []struct{ RefType, SpanID string }
				Duration              int64 // microseconds
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil
	}
	shown := map[string]drawn{}
	for _, data := range answer.Data {
		for _, span := range data.Spans {
			d := drawn{Name: span.OperationName, Duration: time.Duration(span.Duration) * time.Microsecond}
			for _, reference := range span.References {
				if reference.RefType == "CHILD_OF" {
					d.Parent = reference.SpanID
				}
			}
			shown[span.SpanID] = d
		}
	}
	return shown
}
