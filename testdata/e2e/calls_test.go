// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/seed-7756021b/nettap/internal/otlptest"
)

// Spans returns every root span that was written so far and has the wanted
// attributes. It fails the test if the spans of a call are not a tree.
func (c *Collector) Spans(want Attributes) []Span {
	c.t.Helper()
	batches, _ := read(c, "traces.json", 0, (&ptrace.JSONUnmarshaler{}).UnmarshalTraces)
	var roots []Span
	for _, batch := range batches {
		for _, resource := range batch.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				roots = append(roots, c.roots(resource.Resource(), scope.Spans(), want)...)
			}
		}
	}
	return roots
}

func (c *Collector) roots(resource pcommon.Resource, spans ptrace.SpanSlice, want Attributes) []Span {
	c.t.Helper()
	var roots []Span
	inTrace := map[pcommon.TraceID]map[pcommon.SpanID]bool{}
	for _, span := range spans.All() {
		attributes := otlptest.Join(resource.Attributes(), span.Attributes())
		trace := inTrace[span.TraceID()]
		if trace == nil {
			trace = map[pcommon.SpanID]bool{}
			inTrace[span.TraceID()] = trace
		}
		_, isRoot := attributes["nettap.call.kept"] // a root may have a parent, which is a span of the application
		if isRoot == trace[span.ParentSpanID()] || isRoot && span.ParentSpanID().IsEmpty() && len(trace) > 0 {
			c.t.Errorf("span %s of trace %v has no place in it", span.Name(), span.TraceID())
		}
		trace[span.SpanID()] = true
		if isRoot && attributes.Has(want) {
			roots = append(roots, Span{span, attributes})
		}
	}
	return roots
}

// callsAlone is the beginning of a receiver without other instruments and without a limit on its
// CPU time.
const callsAlone = `
	nettap:
	  max_cpu: 0
	  traffic: {enabled: false}
	  drops: {enabled: false}
	  accepts: {enabled: false}
`

// callsOnly reports every call on a port, and no others.
const callsOnly = callsAlone + `
	  calls: {collection_interval: 100ms, initial_delay: 0s, %s, filter: {ports: [%d]}}
`

func startCalls(t *testing.T, port uint16, options string) *Collector {
	t.Helper()
	return StartWith(t, Options{Receivers: fmt.Sprintf(callsOnly, options, port), Traces: true})
}

func TestDistributionTracesCalls(t *testing.T) {
	const size = 200_000
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "file"), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "127.0.0.1", "python3", exec.Command("/usr/bin/python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", directory))
	c := startCalls(t, s.address.Port(), "min_duration: 0s, max_per_second: 0")

	curl := exec.Command("curl", "--silent", "--show-error", "--output", "/dev/null", fmt.Sprintf("http://%v/file", s.address))
	if output, err := curl.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	client := int64(curl.Process.Pid)
	bytes := func(pid int64, syscalls ...string) (sum int64) {
		for _, syscall := range syscalls {
			for _, span := range c.Spans(Attributes{"process.pid": pid, "nettap.call.syscall": syscall}) {
				n, _ := span.Attributes["nettap.call.bytes"].(int64)
				sum += max(n, 0)
			}
		}
		return sum
	}
	var sent, received int64
	c.Wait("the file was sent and received", func() bool {
		sent, received = bytes(int64(s.pid), "sendto", "write", "sendfile"), bytes(client, "recvfrom", "read")
		return sent > size && sent == received && c.callsBalanced()
	})
	if sent > size+1000 {
		t.Errorf("the server sent %d bytes, of a file of %d", sent, size)
	}
	connects := c.Spans(Attributes{"process.pid": client, "nettap.call.syscall": "connect"})
	if len(connects) != 1 || connects[0].Attributes["network.peer.port"] != int64(s.address.Port()) || connects[0].Attributes["network.peer.address"] != "127.0.0.1" {
		t.Errorf("curl's connects are %v", connects)
	}
	accepts := c.Spans(Attributes{"process.pid": s.pid, "nettap.call.syscall": "accept4"})
	if len(accepts) != 1 || accepts[0].Attributes["network.local.port"] != int64(s.address.Port()) || accepts[0].Attributes["service.name"] == nil {
		t.Errorf("the server's accepts are %v", accepts)
	}
	for _, span := range c.Spans(nil) {
		if pid := span.Attributes["process.pid"]; pid != client && pid != int64(s.pid) {
			t.Errorf("%s is of process %v", span.Name(), pid)
		}
	}
}

// exchange is a client that waits for a slow answer, and a server that waits for a request before
// it answers and afterwards.
const exchange = `
import socket, sys, threading, time
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
print("port", listener.getsockname()[1], flush=True)
sys.stdin.readline()
def serve():
    connection, _ = listener.accept()
    while connection.recv(100):
        time.sleep(0.6)
        connection.send(b"answer")
server = threading.Thread(target=serve); server.start()
client = socket.create_connection(listener.getsockname())
time.sleep(0.6)
client.send(b"question")
client.recv(100)
time.sleep(0.6)
client.close(); server.join()
refused = socket.socket(); port = listener.getsockname()[1]; listener.close()
refused.connect_ex(("127.0.0.1", port))
`

func TestDistributionKeepsSlowAndFailedCalls(t *testing.T) {
	command := exec.Command("/usr/bin/python3", "-c", exchange)
	begin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, "127.0.0.1", "python3", command)
	c := startCalls(t, s.address.Port(), "min_duration: 400ms, sample_ratio: 0")
	if _, err := begin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	var got []string
	c.Wait("the last call failed", func() bool {
		got = nil
		for _, span := range c.Spans(nil) {
			got = append(got, fmt.Sprint(span.Attributes["nettap.call.kept"], " ", span.Attributes["nettap.call.syscall"], " ",
				span.Attributes["nettap.call.blocked.on"], " ", span.Attributes["error.type"], " ", span.Status().Code()))
		}
		return len(got) > 0 && strings.HasPrefix(got[len(got)-1], "failed") && c.callsBalanced()
	})
	want := "[slow recvfrom receive_queue <nil> Unset failed connect <nil> ECONNREFUSED Error]"
	if fmt.Sprint(got) != want {
		t.Errorf("calls are %v, want %v", got, want)
	}
}

// callsBalanced reports whether each call that was seen was exported, sampled out or rate limited,
// and whether all exported calls were written.
func (c *Collector) callsBalanced() bool {
	events := func(kind string) (sum float64) {
		for _, sample := range c.Own("otelcol_nettap_events_"+kind, "instrument", "calls") {
			sum += sample.Value
		}
		return sum
	}
	return events("seen") > 0 && events("seen") == events("exported")+events("sampled_out")+events("rate_limited")+events("lost") &&
		events("lost") == 0 && int(events("exported")) == len(c.Spans(nil))
}

func TestDistributionRefusesUnknownFunctions(t *testing.T) {
	for pattern, complaint := range map[string]string{
		"net/tcp.c": "calls.functions", "sock_[": "calls.functions",
	} {
		log := Refuse(t, Options{Receivers: "\tnettap:\n\t  calls: {functions: [" + strconv.Quote(pattern) + "]}\n", Traces: true})
		if !strings.Contains(log, complaint) || !strings.Contains(log, pattern) {
			t.Errorf("the complaint about %s is\n%s", pattern, tail(log, 10))
		}
	}
}
