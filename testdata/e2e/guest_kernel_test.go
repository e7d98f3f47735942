// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// allOfAPort is a receiver that reports every call on a port, traffic, accepts and drops.
const allOfAPort = `
	nettap:
	  traffic: {collection_interval: 100ms, initial_delay: 0s}
	  drops: {enabled: false}
	  accepts: {collection_interval: 100ms, initial_delay: 0s}
	  calls:
	    {collection_interval: 100ms, initial_delay: 0s, min_duration: 0s, max_per_second: 0, functions: [%s], filter: {ports: [%d]}}
`

// head is the beginning of each request, with its span.
const head = "POST / HTTP/1.1\r\ntraceparent: 00-" + traceID + "-" + spanID + "-01\r\n\r\n"

// TestKernelDistributionSeesAConnection needs no other programs, so it also runs in virtual
// machines, on kernels with other hooks.
func TestKernelDistributionSeesAConnection(t *testing.T) {
	const rounds, size = 20, 1000
	functions := "net/socket.c"
	if testing.Short() { // some of that file's functions, enough for each byte to be in a call
		functions = `"sock_[rw]*", "__sys_s[eh]*", "__sys_recv*"`
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	c := StartWith(t, Options{Receivers: fmt.Sprintf(allOfAPort, functions, port), Traces: true})

	served := make(chan error, 1)
	go func() { served <- answer(listener, rounds, size) }()
	if err := ask(listener.Addr().String(), rounds, size); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}

	own := Attributes{"process.pid": os.Getpid()}
	missed := func() float64 { return c.OwnValue("otelcol_nettap_hook_missed_runs", "instrument", "calls") }
	var sent, received int
	c.Wait("each byte is in a call", func() bool {
		sent, received = 0, 0
		for _, span := range c.Spans(own) {
			n, _ := span.Attributes["nettap.call.bytes"].(int64)
			switch span.Attributes["nettap.call.syscall"] {
			case "write", "sendto":
				sent += int(n)
			case "read", "recvfrom":
				received += int(n)
			}
		}
		return sent == received && sent >= rounds*(2*size+len(head)) || missed() > 0
	})
	if want := rounds * (2*size + len(head)); sent > want {
		t.Errorf("%d bytes are in calls, want %d", sent, want)
	}
	seesFunctions := len(c.Own("otelcol_nettap_hook_active", "instrument", "calls", "job", "call", "hook", "tp_btf/sys_enter")) == 0
	if inside := c.functionsInside(); seesFunctions != (inside > 0) {
		t.Errorf("%d functions are inside of calls", inside)
	}
	requests := 0 // without waits for a request or an answer, which have its span too
	for _, span := range c.Spans(Attributes{"network.peer.port": port, "nettap.trace_context.source": "http"}) {
		if span.Attributes["nettap.wait.kind"] == nil {
			requests++
		}
		if span.TraceID().String() != traceID || span.ParentSpanID().String() != spanID {
			t.Errorf("a request is in trace %v below %v", span.TraceID(), span.ParentSpanID())
		}
	}
	if requests != rounds && missed() == 0 {
		t.Errorf("%d requests say what they belong to, want %d", requests, rounds)
	}
	var accepts []Record
	c.Wait("the accept is reported", func() bool {
		accepts = c.Records(Attributes{"network.local.port": port})
		return len(accepts) > 0
	})
	if len(accepts) != 1 || !accepts[0].Attributes.Has(own) || accepts[0].TraceID.String() != traceID {
		t.Errorf("the accepts are %+v", accepts)
	}
	c.Wait("the bytes are the process's", func() bool {
		return c.Value("process.network.io", Attributes{"process.pid": os.Getpid(), "network.interface.name": "lo"}) > 4*rounds*size
	})
}

// functionsInside returns how many spans of calls are not roots.
func (c *Collector) functionsInside() (n int) {
	c.t.Helper()
	batches, _ := read(c, "traces.json", 0, (&ptrace.JSONUnmarshaler{}).UnmarshalTraces)
	for _, batch := range batches {
		n += batch.SpanCount()
	}
	return n - len(c.Spans(nil))
}

// ask makes requests on one connection, each after the one before was answered.
func ask(address string, rounds, size int) error {
	connection, err := net.Dial("tcp4", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for range rounds {
		request := append([]byte(head), make([]byte, size)...)
		if _, err := connection.Write(request); err != nil {
			return err
		}
		if _, err := io.ReadFull(connection, make([]byte, size)); err != nil {
			return err
		}
	}
	return nil
}

// answer accepts one connection and answers its requests.
func answer(listener net.Listener, rounds, size int) error {
	connection, err := listener.Accept()
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for range rounds {
		if _, err := io.ReadFull(connection, make([]byte, size+len(head))); err != nil {
			return err
		}
		if _, err := connection.Write(make([]byte, size)); err != nil {
			return err
		}
	}
	return nil
}
