// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
)

// everything is a receiver of drops, accepts, and every call on one port.
const everything = `
	nettap:
	  max_cpu: 0
	  traffic: {enabled: false}
	  drops: {collection_interval: 100ms, initial_delay: 0s}
	  accepts: {collection_interval: 100ms, initial_delay: 0s}
	  calls: {collection_interval: 100ms, initial_delay: 0s, min_duration: 0s, max_per_second: 0, filter: {ports: [%d]}}
	  trace_context: {late_bind: 10s}
`

// pythonPair is a server and, in a child process, a client whose traceparent header has its current
// span. The client sends the rest of its request when it is told to.
const pythonPair = `
import http.server, os, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204); self.end_headers()
    def log_message(self, *ignored): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print("port", server.server_port, flush=True)
if os.fork():
    server.serve_forever()
server.socket.close()
print(os.getpid(), flush=True)
sys.stdin.readline()
client = socket.create_connection(("127.0.0.1", server.server_port))
client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTraceparent: 00-%s-%s-01\r\n\r\n" % (sys.argv[1].encode(), sys.argv[2].encode()))
print("asks", flush=True)
sys.stdin.readline()
client.sendall(b"more")
client.recv(1000)
client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
client.recv(1000)
`

// TestDistributionJoinsTraces follows a request with a traceparent header, from the accept to one
// of its packets that is dropped.
func TestDistributionJoinsTraces(t *testing.T) {
	command := exec.Command("/usr/bin/python3", "-c", pythonPair, traceID, spanID)
	tell, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, "127.0.0.1", "python3", command)
	var client int64
	if _, err := fmt.Sscan(s.output.Line(), &client); err != nil {
		t.Fatal(err)
	}
	c := StartWith(t, Options{Receivers: fmt.Sprintf(everything, s.address.Port()), Traces: true})
	fmt.Fprintln(tell)
	if answer := s.output.Line(); answer != "asks" {
		t.Fatalf("the client said %q: %v", answer, err)
	}

	accepts := func() []Record { return c.Records(Attributes{"network.local.port": int(s.address.Port())}) }
	c.Wait("the accept is reported", func() bool { return len(accepts()) > 0 })
	if a := accepts()[0]; a.TraceID.String() != traceID || a.Attributes["nettap.trace_context.source"] != "http" {
		t.Errorf("the accept is of trace %q by %v", a.TraceID, a.Attributes["nettap.trace_context.source"])
	}

	undo := dropPacketsTo(t, int(s.address.Port()))
	fmt.Fprintln(tell)
	c.Wait("a packet of the request is dropped", func() bool {
		for _, point := range c.Points("nettap.packet.dropped", Attributes{"nettap.drop.reason": "netfilter_drop"}) {
			for _, e := range point.Exemplars {
				if e.TraceID().String() == traceID && e.SpanID().String() == spanID && e.IntValue() == 1 {
					return true
				}
			}
		}
		return false
	})
	undo()

	var got map[int64][]string
	c.Wait("the second request is answered, and the client gone", func() bool {
		got = map[int64][]string{}
		for _, span := range c.Spans(nil) {
			syscall := span.Attributes["nettap.call.syscall"]
			if syscall != "sendto" && syscall != "recvfrom" {
				continue
			}
			relation := "alone"
			if span.Links().Len() > 0 && span.Links().At(0).TraceID().String() == traceID && span.TraceID().String() != traceID {
				relation = "link " + span.Links().At(0).SpanID().String()
			} else if span.TraceID().String() == traceID {
				relation = "child of " + span.ParentSpanID().String()
			}
			pid := span.Attributes["process.pid"].(int64)
			got[pid] = append(got[pid], fmt.Sprint(syscall, " ", relation, " ", span.Attributes["nettap.trace_context.source"]))
		}
		got[int64(s.pid)] = slices.Compact(got[int64(s.pid)]) // it is not known in how many parts Python reads and writes
		return len(got[client]) >= 5 && len(got[int64(s.pid)]) >= 6
	})
	if found := c.OwnValue("otelcol_nettap_trace_context_found", "source", "http"); found < 2 {
		t.Errorf("%v contexts were found in heads, want those of both ends", found)
	}
	if hooks := c.Own("otelcol_nettap_hook_active", "instrument", "trace_context", "job", "message"); len(hooks) != 1 || hooks[0].Value != 1 {
		t.Errorf("the hooks of messages are %v", hooks)
	}
	wantOfClient := []string{
		"sendto child of " + spanID + " http", "sendto link " + spanID + " socket", "recvfrom link " + spanID + " socket",
		"sendto alone <nil>", "recvfrom alone <nil>",
	}
	if diff := cmp.Diff(wantOfClient, got[client]); diff != "" {
		t.Errorf("the client's calls differ (-want +got):\n%s", diff)
	}
	wantOfServer := []string{
		"recvfrom link " + spanID + " http", "recvfrom link " + spanID + " socket", "sendto link " + spanID + " socket",
		"recvfrom alone <nil>", "sendto alone <nil>", "recvfrom alone <nil>", // the last one receives the end: the client has closed
	}
	if diff := cmp.Diff(wantOfServer, got[int64(s.pid)]); diff != "" {
		t.Errorf("the server's calls differ (-want +got):\n%s", diff)
	}
}

// dropPacketsTo lets a firewall drop packets to a port until undo is called.
func dropPacketsTo(t *testing.T, port int) (undo func()) {
	t.Helper()
	table := fmt.Sprintf("nettap_%d", port)
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(fmt.Sprintf("table ip %s {\n chain out {\n  type filter hook output priority 0\n  tcp dport %d drop\n }\n}\n", table, port))
	if output, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, output)
	}
	undone := false
	undo = func() {
		if undone {
			return
		}
		undone = true
		if output, err := exec.Command("nft", "delete", "table", "ip", table).CombinedOutput(); err != nil {
			t.Errorf("nft: %v: %s", err, output)
		}
	}
	t.Cleanup(undo)
	return undo
}
