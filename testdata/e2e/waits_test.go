// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// waitsReceiver has the defaults, except that it reads more often and that calls are not left out
// when the machine is busy with other tests.
const waitsReceiver = `
	nettap:
	  max_cpu: 0
	  traffic: {enabled: false}
	  drops: {enabled: false}
	  accepts: {enabled: false}
	  calls: {collection_interval: 100ms, initial_delay: 0s%s}
`

// waitSpan is what a test requires of the span of a wait, or of a call that waits itself.
type waitSpan struct {
	Name, Kind  any
	Syscall     any
	Kept, Error any
	Status      ptrace.StatusCode
	Local, Peer string // with a port of 0 where the kernel chose it

	Lasts              time.Duration
	ForPeer, ForItself any // durations, as Blocked is
	Blocked            any
	Whole              bool // whether the durations of both parts add up to the span's

	Relation string // to the span at which the client works
}

// These are relations to that span.
const (
	childByHead    = "child of " + traceID + "/" + spanID + " by http"
	childByLabels  = "child of " + traceID + "/" + spanID + " by go_labels"
	linkBySocket   = "link to " + traceID + "/" + spanID + " by socket"
	withoutContext = "root by <nil>"
)

func relationOf(s Span) string {
	relation := "root"
	if !s.ParentSpanID().IsEmpty() {
		relation = fmt.Sprintf("child of %v/%v", s.TraceID(), s.ParentSpanID())
	}
	for _, link := range s.Links().All() {
		relation = fmt.Sprintf("link to %v/%v", link.TraceID(), link.SpanID())
	}
	return fmt.Sprint(relation, " by ", s.Attributes["nettap.trace_context.source"])
}

// waiting describes the waits of one process at one port, and the spans that are required of them.
type waiting struct {
	about Attributes    // the process and the port of the server
	least time.Duration // a time that is longer counts as this, and a shorter one as none
	want  []waitSpan
}

// spanOf translates a span.
func (w waiting) spanOf(s Span) waitSpan {
	end := func(which string) string {
		port := s.Attributes["network."+which+".port"]
		if _, wanted := w.about["network."+which+".port"]; !wanted {
			port = 0
		}
		return fmt.Sprintf("%v:%v", s.Attributes["network."+which+".address"], port)
	}
	count := func(d time.Duration) time.Duration {
		if d < w.least {
			return 0
		}
		return w.least
	}
	counted := func(attribute string) any {
		seconds, ok := s.Attributes[attribute].(float64)
		if !ok {
			return nil
		}
		return count(time.Duration(math.Round(seconds * 1e9)))
	}
	ofPeer, _ := s.Attributes["nettap.wait.peer.duration"].(float64)
	ofProgram, _ := s.Attributes["nettap.wait.local.duration"].(float64)
	return waitSpan{
		Whole: math.Abs(ofPeer+ofProgram-lasts(s).Seconds()) < 1e-6,
		Name:  s.Name(), Kind: s.Attributes["nettap.wait.kind"], Syscall: s.Attributes["nettap.call.syscall"],
		Kept: s.Attributes["nettap.call.kept"], Error: s.Attributes["error.type"], Status: s.Status().Code(),
		Local: end("local"), Peer: end("peer"),
		Lasts:     count(lasts(s)),
		ForPeer:   counted("nettap.wait.peer.duration"),
		ForItself: counted("nettap.wait.local.duration"),
		Blocked:   counted("nettap.call.blocked.duration"),
		Relation:  relationOf(s),
	}
}

func lasts(s Span) time.Duration { return s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime()) }

// seen returns the spans of these waits. With the defaults, a hundredth of all calls and waits is
// reported too, and so is each that took longer than a millisecond on a busy machine. These have not
// failed and are much shorter than the waits of the test, so they are left out.
func (w waiting) seen(c *Collector) (seen []waitSpan) {
	for _, span := range c.Spans(w.about) {
		if span.Status().Code() == ptrace.StatusCodeError || lasts(span) >= w.least/2 {
			seen = append(seen, w.spanOf(span))
		}
	}
	return seen
}

// waitingClient is a kind of client.
type waitingClient struct {
	program  string // the program that it needs, if any
	ask      func(t *testing.T, port int) (pid int)
	blocks   bool   // whether it waits in its calls
	connects string // the relation of its connects to the span at which it works
}

var waitingClients = map[string]waitingClient{
	"Go":                            {ask: goClient, connects: childByLabels},
	"program curl":                  {program: "curl", ask: curlClient, connects: withoutContext},
	"program node":                  {program: "node", ask: nodeClient, connects: withoutContext},
	"program python":                {program: python, ask: pythonClient("blocks"), connects: withoutContext, blocks: true},
	"program python with a timeout": {program: python, ask: pythonClient("gives up"), connects: withoutContext},
}

// python is the one that .ci/setup installs.
const python = "/usr/bin/python3"

// answered lets the client ask a server that answers late.
func (k waitingClient) answered(t *testing.T, port int) waiting {
	t.Helper()
	want := waitSpan{Name: "receive", Kind: "receive", Kept: "slow", Lasts: answersAfter, ForPeer: answersAfter, ForItself: time.Duration(0), Whole: true, Relation: childByHead}
	if !k.blocks {
		return k.waiting(t, port, answersAfter, want)
	}
	almost := answersAfter * 4 / 5 // the call begins a little later than the wait, which is from the request on
	return k.waiting(t, port, almost, waitSpan{Name: "recvfrom", Syscall: "recvfrom", Kept: "slow", Lasts: almost, Blocked: almost, Relation: linkBySocket})
}

// refused lets the client connect to a port where nobody listens.
func (k waitingClient) refused(t *testing.T, port int) waiting {
	t.Helper()
	want := waitSpan{Name: "connect", Kind: "connect", Kept: "failed", Error: "ECONNREFUSED", Relation: k.connects}
	if k.blocks {
		want.Kind, want.Syscall, want.Blocked = nil, "connect", time.Duration(0)
	}
	return k.waiting(t, port, time.Second, want)
}

// silent lets the client connect to a port where nobody answers. A client that blocks gets an error
// of the kernel after a second.
func (k waitingClient) silent(t *testing.T, port int) waiting {
	t.Helper()
	if k.blocks {
		return k.waiting(t, port, time.Second, waitSpan{
			Name: "connect", Syscall: "connect", Kept: "failed", Error: "ETIMEDOUT", Lasts: time.Second, Blocked: time.Second, Relation: k.connects,
		})
	}
	almost := givesUpAfter * 4 / 5 // a client's clock may be a little early
	return k.waiting(t, port, almost, waitSpan{Name: "connect", Kind: "connect", Kept: "failed", Error: "given_up", Lasts: almost, Relation: k.connects})
}

func (k waitingClient) waiting(t *testing.T, port int, least time.Duration, want waitSpan) waiting {
	t.Helper()
	want.Local, want.Peer = "127.0.0.1:0", fmt.Sprintf("127.0.0.1:%d", port)
	if want.Error != nil {
		want.Status = ptrace.StatusCodeError
	}
	return waiting{Attributes{"process.pid": k.ask(t, port), "network.peer.port": port}, least, []waitSpan{want}}
}

// unanswered lets a client ask a name server that does not answer.
func unanswered(t *testing.T, server netip.Addr) waiting {
	t.Helper()
	const almost = nameGivenUpAfter * 4 / 5
	return waiting{
		about: Attributes{"process.pid": namesClient(t, server), "network.peer.port": namesPort}, least: almost,
		want: []waitSpan{{
			Name: "receive", Kind: "receive", Kept: "failed", Error: "given_up", Status: ptrace.StatusCodeError,
			Local: "127.0.0.1:0", Peer: netip.AddrPortFrom(server, namesPort).String(), Lasts: almost, Relation: withoutContext,
		}},
	}
}

// waits lets the client wait in each way, and returns what is required of it.
func (k waitingClient) waits(t *testing.T, late, refused, silent int) []waiting {
	t.Helper()
	return []waiting{k.answered(t, late), k.refused(t, refused), k.silent(t, silent)}
}

// waits makes requests of a server that reads late, and returns what is required of it.
func (s lateServer) waits(t *testing.T) []waiting {
	t.Helper()
	s.ask(t)
	w := waiting{about: Attributes{"process.pid": s.pid, "network.local.port": s.port}, least: readsAfter}
	for range lateRequests {
		w.want = append(w.want, waitSpan{
			Name: "receive", Kind: "receive", Kept: "slow", Local: fmt.Sprintf("127.0.0.1:%d", s.port), Peer: "127.0.0.1:0",
			Lasts: readsAfter, ForItself: readsAfter, Whole: true, Relation: withoutContext,
		})
	}
	return []waiting{w}
}

// atOnce calls all functions at the same time, and returns their results by their names.
func atOnce(all map[string]func() []waiting) map[string][]waiting {
	var mu sync.Mutex
	var running sync.WaitGroup
	done := map[string][]waiting{}
	for name, do := range all {
		running.Go(func() {
			waits := do()
			mu.Lock()
			defer mu.Unlock()
			done[name] = waits
		})
	}
	running.Wait()
	return done
}

// inEachCall are the functions for tests in guests, where it takes minutes to attach to all: each call has one.
const inEachCall = `["sock_*msg", "sock_*iter", "__sys_connect*", "__sys_s[eh]*", "__sys_recv*"]`

// TestKernelDistributionReportsWaits requires one span for each wait of clients of four kinds, whose
// server answers late, refuses or never answers, and of servers of four kinds, which read requests
// late, and of a client whose name server does not answer, and none for the address that loses a race. Those that need no other program run in guests too.
func TestKernelDistributionReportsWaits(t *testing.T) {
	late, refused, silent := serveSlowly(t), freePort(t), silentPort(t)
	all := map[string]func() []waiting{}
	for name, client := range waitingClients {
		if hasProgram(t, name, client.program) {
			all[name] = func() []waiting { return client.waits(t, late, refused, silent) }
		}
	}
	for name, start := range lateServers {
		if hasProgram(t, name, start.program) {
			server := start.server(t)
			all[name] = func() []waiting { return server.waits(t) }
		}
	}
	const race = "program curl in a race of addresses"
	if hasProgram(t, race, "curl") {
		port := serveBesideSilence(t)
		client := waitingClient{ask: racingClient}
		all[race] = func() []waiting { // the wait for the answer, and not the address that has lost
			answer := waitSpan{Name: "receive", Kind: "receive", Kept: "slow", Lasts: answersAfter, ForPeer: answersAfter, ForItself: time.Duration(0), Whole: true, Relation: withoutContext}
			return []waiting{client.waiting(t, port, answersAfter, answer)}
		}
	}
	const names = "program python that looks up a name"
	if hasProgram(t, names, python) {
		server := silentNames(t)
		all[names] = func() []waiting { return []waiting{unanswered(t, server)} }
	}
	functions := ""
	if testing.Short() {
		functions = ", functions: " + inEachCall
	}
	c := StartWith(t, Options{Traces: true, Receivers: fmt.Sprintf(waitsReceiver, functions)})
	c.awaitRefused(t, freePort(t)) // the labels of a process are read some time after its first call
	done := atOnce(all)
	c.awaitRefused(t, freePort(t)) // spans come in the order of their ends, so all others are there
	for name, waits := range done {
		t.Run(name, func(t *testing.T) {
			for _, w := range waits {
				if diff := cmp.Diff(w.want, w.seen(c)); diff != "" {
					t.Errorf("waits with %v differ (-want +got):\n%s", w.about, diff)
				}
			}
		})
	}
}

// hasProgram returns whether a program is installed. If it is not, that part of the test is skipped.
func hasProgram(t *testing.T, part, program string) bool {
	t.Helper()
	if program == "" {
		return true
	}
	_, err := exec.LookPath(program)
	return err == nil || t.Run(part, func(t *testing.T) { kerneltest.Lack(t, err) }) && false
}

// awaitRefused lets this process connect to a port where nobody listens, until that is reported with
// the span at which the process works.
func (c *Collector) awaitRefused(t *testing.T, port int) {
	t.Helper()
	c.Wait("a connect of this process is reported", func() bool {
		goClient(t, port)
		return len(c.Spans(Attributes{"process.pid": os.Getpid(), "network.peer.port": port, "nettap.trace_context.source": "go_labels"})) > 0
	})
}
