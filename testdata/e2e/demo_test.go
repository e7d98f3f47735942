// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// demoReceiver keeps every call of processes named demo, including those of another test on this
// machine.
const demoReceiver = `
	nettap:
	  max_cpu: 0
	  traffic: {collection_interval: 200ms, initial_delay: 0s}
	  accepts: {collection_interval: 100ms, initial_delay: 0s}
	  calls: {collection_interval: 100ms, initial_delay: 0s, min_duration: 0s, max_per_second: 0, filter: {commands: [demo]}}
`

// large is the size of an answer, in bytes, from which on it is written while its span is open.
const large = 100_000

// nobodyListens is a port of 127.0.0.1.
const nobodyListens = 1

// urlOf returns the URL of a server at a port of 127.0.0.1.
func urlOf(port int) string { return fmt.Sprintf("http://127.0.0.1:%d/", port) }

// seenTwice is what applications did, as they have logged it and as nettap has observed it.
type seenTwice struct {
	*Collector
	server  *Demo
	clients []*Demo
	// late and silent are ports of the server: at the first it reads late, and at the second connects get no answer.
	late, silent int
	// sent are the requests as their clients have logged them.
	sent []Request
}

// startDemo starts a server.
func startDemo(t *testing.T, options Options) *seenTwice {
	t.Helper()
	s := &seenTwice{Collector: StartWith(t, options)}
	s.server = s.StartDemo("server", "-late", "127.0.0.1:0", "-silent", "127.0.0.1:0")
	s.late, s.silent = int(s.Address(s.server, "reads late on").Port()), int(s.Address(s.server, "does not answer on").Port())
	return s
}

// run runs clients one after another, and ends the server.
func (s *seenTwice) run(clients ...[]string) {
	s.t.Helper()
	address := s.Address(s.server, "listens on")
	for _, arguments := range clients {
		arguments = append([]string{"client", "-url", urlOf(int(address.Port()))}, arguments...)
		client := s.StartDemo(arguments...) // if there are two -url, the last one counts
		s.End(client, false)
		s.clients = append(s.clients, client)
		s.sent = append(s.sent, client.Requests()...)
	}
	s.End(s.server, true)
}

// serverSpans returns the spans of the server, by their parents, which are spans of the client.
func (s *seenTwice) serverSpans() map[SpanKey][]Span {
	byParent := map[SpanKey][]Span{}
	for _, span := range s.ApplicationSpans(Attributes{"process.pid": s.server.PID()}) {
		if span.Kind() == ptrace.SpanKindServer {
			byParent[span.Parent()] = append(byParent[span.Parent()], span)
		}
	}
	return byParent
}

// accepts returns the record of each connection that the server accepted, by the
// client's address and port.
func (s *seenTwice) accepts() map[string]Record {
	records := map[string]Record{}
	for _, record := range s.Records(Attributes{"process.pid": s.server.PID()}) {
		records[fmt.Sprintf("%v:%v", record.Attributes["network.peer.address"], record.Attributes["network.peer.port"])] = record
	}
	return records
}

func TestDistributionSeesWhatApplicationsSay(t *testing.T) {
	const (
		each  = 20
		delay = 2 * time.Millisecond
	)
	s := startDemo(t, Options{Receivers: demoReceiver, Traces: true, Applications: true})
	s.run(
		[]string{"-requests", fmt.Sprint(each)},
		[]string{"-requests", fmt.Sprint(each), "-keep-alive=false", "-delay", delay.String()},
		[]string{"-requests", fmt.Sprint(each), "-size", fmt.Sprint(large), "-parallel", "4"},
		[]string{"-requests", fmt.Sprint(each), "-fail", "2"},
		[]string{"-requests", "1", "-url", urlOf(nobodyListens)},
		[]string{"-requests", "1", "-url", urlOf(s.silent), "-connect-timeout", "300ms"},
		[]string{"-requests", "1", "-url", urlOf(s.late)},
	)
	if want := 4*each + 3; len(s.sent) != want {
		t.Fatalf("the clients sent %d requests, want %d", len(s.sent), want)
	}
	s.checkSpans()
	s.checkBytes()
	s.checkCalls()
	s.checkWaits(map[int]time.Duration{s.clients[1].PID(): delay, s.clients[6].PID(): readsAfter}, map[int]string{
		s.clients[4].PID(): fmt.Sprintf("port %d: ECONNREFUSED", nobodyListens),
		s.clients[5].PID(): fmt.Sprintf("port %d: given_up", s.silent),
	})
	s.checkLate()
	s.checkAccepts()
	s.checkTraces()
}

// checkSpans checks that each request has a span of the client and, below it, one of the server.
func (s *seenTwice) checkSpans() {
	s.t.Helper()
	all, serverSpans := s.ApplicationSpans(nil), s.serverSpans()
	for _, request := range s.sent {
		client, ok := all[request.Span]
		want := Attributes{"process.pid": request.PID, "service.name": "demo-client"}
		if !ok || client.Kind() != ptrace.SpanKindClient || !client.Attributes.Has(want) {
			s.t.Errorf("the client's span of %+v is %v", request, client.Attributes)
			continue
		}
		if failed := client.Status().Code() == ptrace.StatusCodeError; failed != request.Failed {
			s.t.Errorf("the status of %+v is %v", request, client.Status().Code())
		}
		if above, ok := all[client.Parent()]; !ok || above.Name() != "request" || !above.ParentSpanID().IsEmpty() {
			s.t.Errorf("above the client's span of %+v is %v", request, above.Attributes)
		}
		below := serverSpans[request.Span]
		if !request.Client.IsValid() { // the request found no server
			if len(below) > 0 {
				s.t.Errorf("the server has spans of %+v", request)
			}
			continue
		}
		want = Attributes{"service.name": "demo-server", "network.peer.port": int(request.Client.Port())}
		if len(below) != 1 || !below[0].Attributes.Has(want) {
			s.t.Errorf("the server has %d spans of %+v", len(below), request)
		}
	}
}

// checkBytes compares the bytes that the applications counted with each other, and with what
// nettap had counted by then. nettap counts more, but not twice as much: headers, and
// the telemetry for the Collector.
func (s *seenTwice) checkBytes() {
	s.t.Helper()
	said := map[string]map[string]int64{"transmit": {}, "receive": {}}
	for _, d := range append(slices.Clone(s.clients), s.server) {
		for direction, sums := range said {
			which := Attributes{"process.pid": d.PID(), "network.io.direction": direction}
			points := s.Points("demo.io", which)
			if len(points) == 0 && !d.Requests()[0].Client.IsValid() {
				continue // the request had no connection
			}
			if len(points) != 1 {
				s.t.Fatalf("points of demo.io with %v are %v", which, points)
			}
			application, kernel := points[0].Value, s.kernelBytes(which, points[0].Time)
			s.t.Logf("process %d, %s: %d bytes of the application, %d of the kernel", d.PID(), direction, application, kernel)
			const telemetry = 300_000
			if kernel < application || kernel > application*11/10+telemetry {
				s.t.Errorf("process %d, %s: %d bytes of the application, %d of the kernel", d.PID(), direction, application, kernel)
			}
			sums[d.Service()] += application
		}
	}
	if said["transmit"]["client"] != said["receive"]["server"] || said["transmit"]["server"] != said["receive"]["client"] {
		s.t.Errorf("the applications counted %v bytes", said)
	}
}

// kernelBytes returns what nettap had counted at a time, or soon after.
func (s *seenTwice) kernelBytes(which Attributes, upTo time.Time) int64 {
	s.t.Helper()
	var bytes int64
	s.Wait(fmt.Sprintf("the kernel's bytes of %v are counted", which), func() bool {
		bytes = 0
		done := false
		for _, point := range s.Points("process.network.io", which) {
			bytes += point.Value
			done = done || point.Ended || !point.Time.Before(upTo)
		}
		return done
	})
	return bytes
}

// checkCalls checks that there are calls of both sides on each request's connection.
func (s *seenTwice) checkCalls() {
	s.t.Helper()
	for _, request := range s.sent {
		if !request.Client.IsValid() {
			continue
		}
		port := int(request.Client.Port())
		for _, side := range []Attributes{
			{"process.pid": request.PID, "network.local.port": port}, {"process.pid": s.server.PID(), "network.peer.port": port},
		} {
			s.Wait(fmt.Sprintf("calls with %v are reported", side), func() bool { return len(s.KernelSpans(side)) > 0 })
		}
	}
}

// checkWaits checks that below the client's span of each request there is one wait. It is for the
// answer, and took the server at least the delay that is stated for the client's process; or it is for
// a connection and failed, as is stated for the client's process. Waits for other connections are not
// checked, because it is not known which request they were made for.
func (s *seenTwice) checkWaits(delays map[int]time.Duration, unconnected map[int]string) {
	s.t.Helper()
	got := map[SpanKey][]string{}
	for _, request := range s.sent {
		got[request.Span] = nil
	}
	for _, wait := range s.Spans(nil) {
		kind := wait.Attributes["nettap.wait.kind"]
		below, ofClient := got[wait.Parent()]
		if kind == nil || !ofClient || kind == "connect" && wait.Attributes["error.type"] == nil {
			continue
		}
		port := wait.Attributes["network.local.port"]
		if kind == "connect" { // the kernel has chosen the local port
			port = wait.Attributes["network.peer.port"]
		}
		pid := int(wait.Attributes["process.pid"].(int64))
		said := fmt.Sprintf("%v by process %d, port %v: %v", kind, pid, port, wait.Attributes["error.type"])
		if seconds, _ := wait.Attributes["nettap.wait.peer.duration"].(float64); seconds < delays[pid].Seconds() {
			said += fmt.Sprintf(", the peer took %v s", seconds)
		}
		got[wait.Parent()] = append(below, said)
	}
	for _, request := range s.sent {
		want := fmt.Sprintf("receive by process %d, port %d: ", request.PID, request.Client.Port())
		if !request.Client.IsValid() {
			want = fmt.Sprintf("connect by process %d, %s", request.PID, unconnected[request.PID])
		} else if request.Failed {
			want += "ECONNRESET"
		} else {
			want += "<nil>"
		}
		if diff := cmp.Diff([]string{want}, got[request.Span]); diff != "" {
			s.t.Errorf("waits of %+v differ (-want +got):\n%s", request, diff)
		}
	}
}

// checkLate checks that the server has one wait at the port where it reads late, and that all of it was the server's own.
func (s *seenTwice) checkLate() {
	s.t.Helper()
	var waits []Span
	for _, span := range s.KernelSpans(Attributes{"process.pid": s.server.PID(), "network.local.port": s.late}) {
		if span.Attributes["nettap.wait.kind"] != nil {
			waits = append(waits, span)
		}
	}
	if len(waits) != 1 || waits[0].Name() != "receive" || lasts(waits[0]) < readsAfter*9/10 ||
		waits[0].Attributes["nettap.wait.local.duration"] != lasts(waits[0]).Seconds() || waits[0].Attributes["nettap.wait.peer.duration"] != nil {
		s.t.Errorf("the waits of the server that reads late are %v", waits)
	}
}

// checkAccepts checks that there is a record for each connection of a client, and no other record.
func (s *seenTwice) checkAccepts() {
	s.t.Helper()
	var want []string
	for _, d := range s.clients {
		want = append(want, d.Connections()...)
	}
	s.Wait("the accepts are reported", func() bool { return len(s.accepts()) >= len(want) })
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(s.accepts()))); diff != "" {
		s.t.Errorf("the connections of the clients and those accepted (-want +got):\n%s", diff)
	}
}

// checkTraces checks that calls are in the applications' traces, below a span of the same process
// that was really exported, and that for each connection the server's first span, calls of the
// server below it and the accept are in one trace.
func (s *seenTwice) checkTraces() {
	s.t.Helper()
	all, servers := s.ApplicationSpans(nil), s.serverSpans()
	inTrace := map[SpanKey]int{} // calls below a span
	for _, call := range s.Spans(nil) {
		if call.ParentSpanID().IsEmpty() {
			continue
		}
		above, ok := all[call.Parent()]
		if !ok || above.Attributes["process.pid"] != call.Attributes["process.pid"] {
			s.t.Errorf("a call of process %v, by %v, is below a span of process %v", call.Attributes["process.pid"],
				call.Attributes["nettap.trace_context.source"], above.Attributes["process.pid"])
		}
		inTrace[call.Parent()]++
	}
	seen := map[string]bool{}
	accepts := s.accepts()
	for _, request := range s.sent {
		if !request.Client.IsValid() {
			continue
		}
		if inTrace[request.Span] == 0 {
			s.t.Errorf("no call is below the client's span of %+v", request)
		}
		if client := request.Client.String(); !seen[client] {
			seen[client] = true
			if accept := accepts[client]; accept.TraceID != request.Span.Trace {
				s.t.Errorf("the accept of %v is of trace %v by %v, want %v", client, accept.TraceID,
					accept.Attributes["nettap.trace_context.source"], request.Span.Trace)
			}
		}
		for _, server := range servers[request.Span] {
			// A small answer is written after the span has ended.
			if inTrace[server.Key()] == 0 && request.Bytes >= large {
				s.t.Errorf("no call is below the server's span of %+v", request)
			}
		}
	}
}

// TestDistributionGivesNoRequestAnothersTrace makes 10,000 requests, on kept connections
// and on new ones, and compares each fifth call with the request to which it is attributed.
func TestDistributionGivesNoRequestAnothersTrace(t *testing.T) {
	s := startDemo(t, Options{Receivers: callsAlone + `
	  calls:
	    {collection_interval: 100ms, initial_delay: 0s, min_duration: 1h, errors: never, sample_ratio: 0.2, max_per_second: 0, filter: {commands: [demo]}}
	`, Traces: true, Applications: true})
	s.run(
		[]string{"-requests", "8000", "-parallel", "8", "-interval", "0s"},
		[]string{"-requests", "2000", "-parallel", "8", "-interval", "0s", "-keep-alive=false"},
	)
	if len(s.sent) != 10_000 {
		t.Fatalf("%d requests were made", len(s.sent))
	}
	client := map[SpanKey]Request{}
	for _, request := range s.sent {
		client[request.Span] = request
	}
	all := s.ApplicationSpans(nil)
	checked := 0
	for _, call := range s.Spans(nil) {
		syscall := call.Attributes["nettap.call.syscall"]
		if call.ParentSpanID().IsEmpty() || syscall != "read" && syscall != "write" {
			continue // a request that dials may be sent on a connection that was made for another one
		}
		above := all[call.Parent()]
		request, ofClient := client[call.Parent()]
		if !ofClient { // the parent of the server's span is the client's span
			request = client[above.Parent()]
		}
		port := call.Attributes["network.local.port"]
		if !ofClient {
			port = call.Attributes["network.peer.port"]
		}
		checked++
		if above.Attributes["process.pid"] != call.Attributes["process.pid"] || port != int64(request.Client.Port()) {
			t.Errorf("a call on port %v, by %v, is below %v, whose request is on port %d", port,
				call.Attributes["nettap.trace_context.source"], above.Attributes, request.Client.Port())
		}
	}
	if checked < 1000 {
		t.Errorf("only %d calls are below a span", checked)
	}
	t.Logf("%d calls are below the right span", checked)
}
