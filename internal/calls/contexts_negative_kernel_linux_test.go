// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// otherRequests makes 5,000 requests on one connection and as many on new ones. Every other request has
// no context.
func otherRequests(t *testing.T, o *fixture) {
	const each = 100 // requests between two collections
	rounds := 50
	if testing.Short() {
		rounds = 3
	}
	for name, connect := range map[string]func(t testing.TB) (client, server int){
		"on a kept connection": nil,
		"on new connections":   resetTCP,
	} {
		t.Run(name, func(t *testing.T) {
			client, server := connectTCP(t)
			for round := range rounds {
				o.want(t, Options{Filter: Filter{Syscalls: []string{"write", "recvfrom"}}})
				var want []relation
				thread := onThread(func() {
					for i := range each {
						if connect != nil {
							client, server = connect(t)
						}
						n := round*each + i + 1
						headers, r := "", [2]relation{{Syscall: "write"}, {Syscall: "recvfrom"}}
						back := r
						if n%2 == 0 {
							headers = traceparent(n)
							r = [2]relation{{"write", "http", spanIDOf(n), ""}, {"recvfrom", "http", "", spanIDOf(n)}}
							back = [2]relation{{"write", "socket", "", spanIDOf(n)}, {"recvfrom", "socket", "", spanIDOf(n)}}
						}
						write(t, client, request(headers))
						receive(server)
						write(t, server, "HTTP/1.1 204 No Content\r\n\r\n")
						receive(client)
						want = append(want, r[0], r[1], back[0], back[1])
						if connect != nil {
							unix.Close(client)
							unix.Close(server)
						}
					}
				})
				got := o.relations(t, thread)
				if diff := gocmp.Diff(want, got); diff != "" && o.missed(t) == 0 {
					t.Fatalf("relations differ in round %d (-want +got):\n%s", round, diff)
				}
			}
		})
	}
}

// resetTCP is connectTCP for connections that are reset when they are closed, so that other connections
// soon get their ports and their sockets' memory.
func resetTCP(t testing.TB) (client, server int) {
	t.Helper()
	listener := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	defer unix.Close(listener)
	if err := unix.Listen(listener, 1); err != nil {
		t.Fatal(err)
	}
	client = must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	if err := unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(client, must(unix.Getsockname(listener))); err != nil {
		t.Fatal(err)
	}
	server, _, err := unix.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

// otherProcesses lets a child process continue its parent's exchange.
func otherProcesses(t testing.TB, o *fixture) {
	client, server := connectTCP(t)
	write(t, client, request(traceparent(7)))
	receive(server)

	child := startOneShot(t, server, "writes")
	o.want(t, Options{Filter: Filter{PIDs: []uint32{child.pid(), uint32(unix.Getpid())}, Syscalls: []string{"sendto"}}})
	child.end(t)
	thread := onThread(func() { send(t, server, 3) }) // the parent still has the context
	want := []relation{{Syscall: "sendto", Source: "socket", Link: spanIDOf(7)}}
	if diff := gocmp.Diff(want, o.relations(t, thread)); diff != "" {
		t.Errorf("the parent's relations differ (-want +got):\n%s", diff)
	}
	for _, tr := range o.collect(t) {
		if pid := value(tr.resource, "process.pid"); pid == int64(child.Process.Pid) && tr.value("nettap.trace_context.source") != nil {
			t.Errorf("the child has the parent's context")
		}
	}
	if len(o.trees) != 2 {
		t.Errorf("there are %d calls, want the child's and the parent's", len(o.trees))
	}
}

// unsampled makes calls in a span that is not recorded.
func unsampled(t *testing.T, o *fixture) {
	parent := "traceparent: 00-" + traceIDOf(1) + "-" + spanIDOf(1) + "-00\r\n"
	for name, test := range map[string]struct {
		keep bool
		want []relation
	}{
		"unless they are wanted": {want: []relation{{"recvfrom", "http", "", spanIDOf(1)}}},
		"not if they are":        {keep: true, want: []relation{{"write", "http", spanIDOf(1), ""}, {"recvfrom", "http", "", spanIDOf(1)}}},
	} {
		t.Run(name, func(t *testing.T) {
			o.try(t, func(t testing.TB, o *fixture) {
				client, server := connectTCP(t)
				o.want(t, Options{KeepUnsampled: test.keep, Filter: Filter{Syscalls: []string{"write", "recvfrom"}}})
				thread := onThread(func() {
					write(t, client, request(parent))
					receive(server)
				})
				if diff := gocmp.Diff(test.want, o.relations(t, thread)); diff != "" {
					t.Errorf("relations differ (-want +got):\n%s", diff)
				}
				if counts := o.counts(t); counts.Seen != counts.SampledOut+uint64(len(o.trees)) {
					t.Errorf("the counts are %+v, and there are %d calls", counts, len(o.trees))
				}
			})
		})
	}
}

// TestKernelKeepsContexts lets sockets keep a context only for a short time, and allows the memory of
// this process to be read, but of no other.
func TestKernelKeepsContexts(t *testing.T) {
	const ttl = 20 * time.Millisecond
	o := observeContexts(t, func(options *tracecontext.Options) {
		options.SocketTTL, options.PIDs = ttl, []uint32{uint32(unix.Getpid())}
	})
	needMessages(t, o)
	t.Run("of wanted processes", func(t *testing.T) {
		eventually(t, func() string { // user space first has to tell the programs that this process is allowed
			client, _ := connectTCP(t)
			o.want(t, Options{})
			thread := onThread(func() { write(t, client, request(traceparent(1))) })
			return gocmp.Diff([]relation{{"write", "http", spanIDOf(1), ""}}, o.relations(t, thread))
		})
		o.try(t, func(t testing.TB, o *fixture) {
			client, _ := connectTCP(t)
			if diff := gocmp.Diff([]relation{{Syscall: "sendto"}}, o.sent(t, startOneShot(t, client, "asks"))); diff != "" {
				t.Errorf("relations of another process differ (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("for a time", func(t *testing.T) {
		o.try(t, func(t testing.TB, o *fixture) {
			client, server := connectTCP(t)
			write(t, client, request(traceparent(1)))
			receive(server)
			time.Sleep(2 * ttl)
			o.want(t, Options{})
			thread := onThread(func() { write(t, server, "HTTP/1.1 200 OK\r\n\r\n") })
			if diff := gocmp.Diff([]relation{{Syscall: "write"}}, o.relations(t, thread)); diff != "" {
				t.Errorf("relations differ (-want +got):\n%s", diff)
			}
		})
		counts, err := o.calls.contexts.Counts()
		if err != nil || counts.Refused["expired"] == 0 {
			t.Errorf("the counts are %+v: %v", counts, err)
		}
	})
}
