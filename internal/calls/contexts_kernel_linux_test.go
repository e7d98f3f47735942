// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// relation is how a call's root refers to a span of the application.
type relation struct {
	Syscall string
	Source  string
	Parent  string // a span id, in the root's trace
	Link    string // a span id
}

// relations returns the relations of a thread's calls, in order.
func (o *fixture) relations(t testing.TB, thread int) []relation {
	t.Helper()
	var relations []relation
	for _, tr := range o.by(t, thread) {
		r := relation{Syscall: deedOf(tr).Syscall}
		r.Source, _ = tr.value("nettap.trace_context.source").(string)
		if parent := tr.root.ParentSpanID(); !parent.IsEmpty() {
			r.Parent = parent.String()
		}
		if tr.root.Links().Len() > 0 {
			r.Link = tr.root.Links().At(0).SpanID().String()
		}
		relations = append(relations, r)
	}
	return relations
}

func traceIDOf(n int) string { return fmt.Sprintf("%032x", 0xa0000000+n) }

func spanIDOf(n int) string { return fmt.Sprintf("%016x", 0xb0000000+n) }

func traceparent(n int) string {
	return fmt.Sprintf("traceparent: 00-%s-%s-01\r\n", traceIDOf(n), spanIDOf(n))
}

func request(headers string) string {
	return "GET /a HTTP/1.1\r\nHost: example.com\r\n" + headers + "Accept: */*\r\n\r\n"
}

func write(t testing.TB, fd int, text string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Error(err)
	}
}

// contextOptions returns the options of the tests. OBI's map does not exist.
func contextOptions(sources ...tracecontext.Source) tracecontext.Options {
	return tracecontext.Options{
		Sources: sources, HeadBytes: 2048, TraceIDLabel: "trace_id", SpanIDLabel: "span_id", SocketTTL: time.Minute,
		OBIMap: "/sys/fs/bpf/nettap-is-not-there",
	}
}

// observeContexts starts the instrument with trace contexts from all sources, on a rung that starts
// fast.
func observeContexts(t *testing.T, change func(*tracecontext.Options)) *fixture {
	t.Helper()
	return observeContextsWith(t, Options{AvoidHooks: []string{"fentry", "kprobe"}}, change)
}

// observeContextsWith does the same on other rungs.
func observeContextsWith(t *testing.T, of Options, change func(*tracecontext.Options)) *fixture {
	t.Helper()
	kerneltest.Require(t)
	options := contextOptions()
	options.Warn = func(message string) { t.Log(message) }
	for s := tracecontext.HTTP; s <= tracecontext.Socket; s++ {
		options.Sources = append(options.Sources, s)
	}
	change(&options)
	contexts := tracecontext.NewContexts(options)
	if err := contexts.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := contexts.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	o := observe(t, of, func(c *Calls) {
		c.contexts, c.emitter.service = contexts, contexts.Service
	})
	if err := contexts.Enable(); err != nil {
		t.Fatal(err)
	}
	return o
}

// needMessages skips the test if this kernel has no hooks for the messages of processes.
func needMessages(t *testing.T, o *fixture) {
	t.Helper()
	hooks, _ := o.calls.contexts.Hooks()
	for _, hook := range hooks {
		if hook.Job == "message" && len(hook.Programs) == 0 {
			t.Skip("not seen here: ", hook.NotSeen, ": ", hook.Refused)
		}
	}
}

// TestKernelFindsContexts starts the instrument once for all tests that can share it, because that takes
// long on an emulated machine. OBI comes first: once this process has published contexts itself, as with
// labels, those of OBI are only links.
func TestKernelFindsContexts(t *testing.T) {
	path, said := kerneltest.OBIPath(t), make(chan string, 9)
	o := observeContexts(t, func(options *tracecontext.Options) {
		say := func(message string) { said <- message }
		options.OBIMap, options.Warn, options.Inform = path, say, say
	})
	t.Run("in the map of OBI", func(t *testing.T) { inOBIMap(t, o, path, said) })
	t.Run("in the records of threads", func(t *testing.T) { records(t, o) })
	t.Run("in the labels of goroutines", func(t *testing.T) { goLabels(t, o) })
	t.Run("in messages", func(t *testing.T) {
		needMessages(t, o)
		t.Run("by their heads", func(t *testing.T) { heads(t, o) })
		t.Run("of their exchange", func(t *testing.T) { o.try(t, exchanges) })
		t.Run("and not of other requests", func(t *testing.T) { otherRequests(t, o) })
		t.Run("and not of other processes", func(t *testing.T) { o.try(t, otherProcesses) })
		t.Run("that are not sampled", func(t *testing.T) { unsampled(t, o) })
	})
}

// heads sends heads of requests with each system call, and messages that are none.
func heads(t *testing.T, o *fixture) {
	for name, test := range map[string]struct {
		text  string
		found bool
	}{
		"a request":                      {request(traceparent(1)), true},
		"a response":                     {"HTTP/1.1 200 OK\r\n" + traceparent(1) + "\r\n", true},
		"in capitals":                    {request("Traceparent: 00-" + traceIDOf(1) + "-" + spanIDOf(1) + "-01\r\n"), true},
		"without white space":            {request("traceparent:00-" + traceIDOf(1) + "-" + spanIDOf(1) + "-01\r\n"), true},
		"behind a long header":           {request("X: " + string(make([]byte, 1700)) + "\r\n" + traceparent(1)), true},
		"too far away":                   {request("X: " + string(make([]byte, 2100)) + "\r\n" + traceparent(1)), false},
		"in the body":                    {request("") + traceparent(1) + "\r\n" + traceparent(1), false},
		"in another header":              {request("X-" + traceparent(1)), false},
		"not HTTP":                       {"SET a b\r\n" + traceparent(1) + "\r\n", false},
		"upper-case ids":                 {request("traceparent: 00-" + "A" + traceIDOf(1)[1:] + "-" + spanIDOf(1) + "-01\r\n"), false},
		"a trace id of zeros":            {request("traceparent: 00-" + fmt.Sprintf("%032d", 0) + "-" + spanIDOf(1) + "-01\r\n"), false},
		"a span id of zeros":             {request("traceparent: 00-" + traceIDOf(1) + "-" + fmt.Sprintf("%016d", 0) + "-01\r\n"), false},
		"version ff":                     {request("traceparent: ff-" + traceIDOf(1) + "-" + spanIDOf(1) + "-01\r\n"), false},
		"no hyphens":                     {request("traceparent: 00_" + traceIDOf(1) + "_" + spanIDOf(1) + "_01\r\n"), false},
		"cut off":                        {"GET / HTTP/1.1\r\ntraceparent: 00-" + traceIDOf(1), false},
		"at the end of what is received": {"GET / HTTP/1.1\r\ntraceparent: 00-" + traceIDOf(1) + "-" + spanIDOf(1) + "-01", true},
	} {
		t.Run(name, func(t *testing.T) {
			o.try(t, func(t testing.TB, o *fixture) {
				client, _ := connectTCP(t)
				o.want(t, Options{})
				thread := onThread(func() { write(t, client, test.text) })
				want := []relation{{Syscall: "write"}}
				if test.found {
					want[0].Source, want[0].Parent = "http", spanIDOf(1)
				}
				if diff := gocmp.Diff(want, o.relations(t, thread)); diff != "" {
					t.Errorf("relations differ (-want +got):\n%s", diff)
				}
				for _, tr := range o.by(t, thread) {
					if id := tr.root.TraceID(); test.found != (hex.EncodeToString(id[:]) == traceIDOf(1)) {
						t.Errorf("the trace is %s", id)
					}
				}
			})
		})
	}
}

// goLabels labels goroutines of this process.
func goLabels(t *testing.T, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	labelled := func(n int) func() {
		return func() {
			labels := pprof.Labels("user", "7", "trace_id", traceIDOf(n), "span_id", spanIDOf(n), "zone", "b")
			pprof.Do(context.Background(), labels, func(context.Context) { send(t, fds[0], 1) })
			send(t, fds[0], 1)
		}
	}
	o.want(t, Options{})
	eventually(t, func() string {
		if found := o.relations(t, onThread(labelled(1))); len(found) == 0 || found[0].Source != "go_labels" {
			return fmt.Sprintf("the relations are %+v", found)
		}
		return ""
	})
	o.try(t, func(t testing.TB, o *fixture) {
		o.want(t, Options{})
		for n := range 20 {
			want := []relation{{"sendto", "go_labels", spanIDOf(n), ""}, {Syscall: "sendto"}}
			if diff := gocmp.Diff(want, o.relations(t, onThread(labelled(n)))); diff != "" {
				t.Errorf("relations differ (-want +got):\n%s", diff)
			}
		}
	})
}

// records runs a program whose thread publishes its current span.
func records(t *testing.T, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	publisher := exec.Command(filepath.Join("testdata", "publisher", runtime.GOARCH))
	h, silent := startWith(t, publisher, fds[0]), startWith(t, exec.Command(publisher.Path), fds[0])
	// sends lets a helper send in each of some spans, and waits until these calls have ended.
	sends := func(t testing.TB, o *fixture, h helper, at string) []relation {
		o.want(t, Options{Filter: Filter{PIDs: []uint32{h.pid()}, Syscalls: []string{"sendto"}}})
		must(io.WriteString(h.in, at))
		for range at {
			awaitReadable(t, fds[1])
			unix.Read(fds[1], make([]byte, 1))
		}
		var relations []relation
		for deadline := time.Now().Add(time.Second); len(relations) < len(at) && time.Now().Before(deadline); {
			relations = o.relations(t, h.Process.Pid)
		}
		return relations
	}
	at := func(span byte) relation {
		return relation{Syscall: "sendto", Source: "otel_thread", Parent: fmt.Sprintf("d0d0d0d0d0d0d0%02x", span)}
	}
	eventually(t, func() string { return gocmp.Diff([]relation{at('a')}, sends(t, o, h, "a")) })
	o.try(t, func(t testing.TB, o *fixture) {
		want := []relation{at('b'), {Syscall: "sendto"}, at('c'), at('d'), {Syscall: "sendto"}}
		if diff := gocmp.Diff(want, sends(t, o, h, "b-cd-")); diff != "" {
			t.Errorf("relations differ (-want +got):\n%s", diff)
		}
	})
	h.end(t)
	// A process that has published nothing for long is examined less often, but is not given up.
	eventually(t, func() string {
		sends(t, o, silent, strings.Repeat("-", 600))
		time.Sleep(20 * time.Millisecond)
		return gocmp.Diff([]relation{at('a'), at('b')}, sends(t, o, silent, "ab"))
	})
	silent.end(t)
}

// exchanges follows requests and their answers on one connection.
func exchanges(t testing.TB, o *fixture) {
	client, server := connectTCP(t)
	o.want(t, Options{})
	thread := onThread(func() {
		for i, headers := range []string{traceparent(1), "", traceparent(2)} {
			write(t, client, request(headers))
			receive(server)
			write(t, server, "HTTP/1.1 200 OK\r\n\r\n")
			receive(client)
			if i == 0 { // another part of the same answer
				write(t, server, "the body")
				receive(client)
			}
		}
	})
	exchange := func(n int, parts int) []relation {
		all := []relation{
			{"write", "http", spanIDOf(n), ""}, {"recvfrom", "http", "", spanIDOf(n)},
			{"write", "socket", "", spanIDOf(n)}, {"recvfrom", "socket", "", spanIDOf(n)},
		}
		for range parts - 1 {
			all = append(all, all[2:4]...)
		}
		return all
	}
	want := exchange(1, 2)
	want = append(want, relation{Syscall: "write"}, relation{Syscall: "recvfrom"}, relation{Syscall: "write"}, relation{Syscall: "recvfrom"})
	want = append(want, exchange(2, 1)...)
	if diff := gocmp.Diff(want, o.relations(t, thread)); diff != "" {
		t.Errorf("relations differ (-want +got):\n%s", diff)
	}
}
