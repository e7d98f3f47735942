// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/seed-7756021b/nettap/internal/child"
)

// demo is the path of the program of internal/demo. Tests run in the directory of this package.
const demo = "../../build/demo"

var buildDemo = sync.OnceValue(func() error {
	if output, err := exec.Command("go", "build", "-C", "../../internal/demo", "-o", "../../build/demo", ".").CombinedOutput(); err != nil {
		return fmt.Errorf("build the demo: %w\n%s", err, output)
	}
	return nil
})

// Demo is a running application of internal/demo, which exports its own telemetry to a Collector.
// It ends with the test.
type Demo struct {
	t       testing.TB
	command *exec.Cmd
	output  string // a file
	exited  chan struct{}
}

// StartDemo starts an application with the arguments of its command line, of which the first is
// client or server. The kernel chooses the port of a server.
func (c *Collector) StartDemo(arguments ...string) *Demo {
	c.t.Helper()
	if err := buildDemo(); err != nil {
		c.t.Fatal(err)
	}
	d := &Demo{t: c.t, output: filepath.Join(c.t.TempDir(), "output"), exited: make(chan struct{})}
	output, err := os.Create(d.output)
	if err != nil {
		c.t.Fatal(err)
	}
	defer output.Close()
	if arguments[0] == "server" {
		arguments = append(arguments, "-address", "127.0.0.1:0")
	}
	d.command = exec.Command(demo, arguments...)
	d.command.Stdout, d.command.Stderr = output, output
	d.command.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+c.Endpoint(),
		"OTEL_BSP_SCHEDULE_DELAY=200", "OTEL_METRIC_EXPORT_INTERVAL=500", // milliseconds
		"OTEL_BSP_MAX_QUEUE_SIZE=50000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=2000")
	if err := child.Start(d.command); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(d.exited)
		d.command.Wait() //nolint:errcheck // ProcessState has the result
	}()
	c.t.Cleanup(func() {
		d.command.Process.Kill() //nolint:errcheck // it may have ended
		<-d.exited
		if d.t.Failed() {
			d.t.Logf("%v wrote\n%s", d.command, tail(d.Output(), 20))
		}
	})
	return d
}

// PID returns the process id of the application.
func (d *Demo) PID() int { return d.command.Process.Pid }

// Service returns the application's role, client or server.
func (d *Demo) Service() string { return d.command.Args[1] }

// Output returns what the application has written so far.
func (d *Demo) Output() string {
	output, err := os.ReadFile(d.output)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(output)
}

// Address waits until a server has written that it does something at an address, such as "listens on", and returns it.
func (c *Collector) Address(d *Demo, does string) netip.AddrPort {
	c.t.Helper()
	var found []string
	c.Wait("the server of the demo "+does+" an address", func() bool {
		found = regexp.MustCompile(regexp.QuoteMeta(does) + ` (\S+),`).FindStringSubmatch(d.Output())
		return found != nil
	})
	return netip.MustParseAddrPort(found[1])
}

// End waits until the application has ended, by which time it has exported everything. If ask is
// set it sends SIGTERM; otherwise the application ends by itself.
func (c *Collector) End(d *Demo, ask bool) {
	c.t.Helper()
	if ask {
		d.command.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	}
	c.Wait("the demo ends", func() bool {
		select {
		case <-d.exited:
			return true
		default:
			return false
		}
	})
	if !d.command.ProcessState.Success() {
		c.t.Errorf("%v: %v", d.command, d.command.ProcessState)
	}
}

// Request is a request as the demo's client or server has logged it.
type Request struct {
	PID    int
	Span   SpanKey // the client's or the server's span
	Client netip.AddrPort
	Bytes  int64
	Failed bool
}

var requestLine = regexp.MustCompile(`(?m)^(?:client|server) pid=(\d+) trace=(\w+) span=(\w+) (?:parent=\w+ )?(?:local|peer)=(\S+) (?:status=\d+ )?bytes=(\d+)( error=.*)?$`)

// Requests returns the requests that the application has finished, in the order of its log. A
// request that found no server has no client address.
func (d *Demo) Requests() []Request {
	d.t.Helper()
	var requests []Request
	for _, found := range requestLine.FindAllStringSubmatch(d.Output(), -1) {
		var r Request
		r.PID, _ = strconv.Atoi(found[1])
		r.Span = spanKey(d.t, found[2], found[3])
		r.Client, _ = netip.ParseAddrPort(found[4])
		r.Bytes, _ = strconv.ParseInt(found[5], 10, 64)
		r.Failed = found[6] != ""
		requests = append(requests, r)
	}
	return requests
}

var dialedLine = regexp.MustCompile(`(?m)^client pid=\d+ dialed local=(\S+)$`)

// Connections returns the local address of each connection that a client made, including
// connections on which no request was sent.
func (d *Demo) Connections() []string {
	d.t.Helper()
	var connections []string
	for _, found := range dialedLine.FindAllStringSubmatch(d.Output(), -1) {
		connections = append(connections, found[1])
	}
	return connections
}

func spanKey(t testing.TB, trace, span string) SpanKey {
	t.Helper()
	traceID, errTrace := hex.DecodeString(trace)
	spanID, errSpan := hex.DecodeString(span)
	var key SpanKey
	if err := errors.Join(errTrace, errSpan); err != nil || copy(key.Trace[:], traceID) != 16 || copy(key.Span[:], spanID) != 8 {
		t.Fatalf("%q and %q are no ids: %v", trace, span, err)
	}
	return key
}
