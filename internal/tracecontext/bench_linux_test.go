package tracecontext

import (
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// BenchmarkMessage sends a message over a TCP connection, and receives it. It
// reports by the kernel's statistics what a run of each program takes above one of an
// empty program that is on the same hook in the same run.
func BenchmarkMessage(b *testing.B) {
	plain := strings.Repeat("x", 400)
	head := "GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n"
	traceparent := "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"
	for _, test := range []struct {
		name    string
		message string
		sources []Source
		labels  []string // of the goroutine
	}{
		{name: "no sources", message: plain},
		{name: "no head", message: plain, sources: []Source{HTTP}},
		{name: "nothing published", message: plain, sources: []Source{HTTP, OTelThread, OBI, Socket}},
		{name: "a goroutine without labels", message: plain, sources: []Source{HTTP, OTelThread, GoLabels, OBI, Socket}},
		{name: "a goroutine with labels", message: plain, sources: []Source{GoLabels},
			labels: []string{"span_id", "00f067aa0ba902b7", "trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"}},
		{name: "a head without one", message: head + "\r\n" + plain, sources: []Source{HTTP, OTelThread, OBI, Socket}},
		{name: "a head with one", message: head + traceparent, sources: []Source{HTTP}},
		{name: "a head with one, remembered", message: head + traceparent, sources: []Source{HTTP, Socket}},
	} {
		b.Run(test.name, func(b *testing.B) {
			c, empty := attachAll(b, test.sources)
			pprof.SetGoroutineLabels(pprof.WithLabels(b.Context(), pprof.Labels(test.labels...)))
			client, server := connect(b)
			buffer := make([]byte, len(test.message))
			copy(buffer, test.message)
			b.ResetTimer()
			for b.Loop() {
				if _, err := unix.Write(client, buffer); err != nil {
					b.Fatal(err)
				}
				if _, err := unix.Read(server, buffer); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			for name, program := range empty {
				ours, runs := kerneltest.PerRun(b, c.object.Programs[name])
				nothing, _ := kerneltest.PerRun(b, program)
				if runs < uint64(b.N)/2 {
					b.Fatalf("%s ran %d times", name, runs)
				}
				b.ReportMetric(ours-nothing, name+"-ns/run")
			}
		})
	}
}

// attachAll starts the programs, and puts an empty one on each hook of messages.
func attachAll(b *testing.B, sources []Source) (*Contexts, map[string]*ebpf.Program) {
	b.Helper()
	c := NewContexts(Options{
		Sources: sources, HeadBytes: 2048, TraceIDLabel: "trace_id", SpanIDLabel: "span_id", SocketTTL: time.Minute,
		OBIMap: "/sys/fs/bpf/nettap-is-not-there", LateBind: time.Second,
	})
	if err := c.Start(b.Context()); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { c.Shutdown(b.Context()) })
	empty := map[string]*ebpf.Program{}
	for name, tracepoint := range map[string]string{"see_send": "sock_send_length", "see_receive": "sock_recv_length"} {
		if c.object.Programs[name] == nil {
			b.Skip("the tracepoints of messages are not in use here")
		}
		empty[name] = kerneltest.AttachEmpty(b, tracepoint)
	}
	kerneltest.CountRuns(b)
	if err := c.Begin(); err != nil {
		b.Fatal(err)
	}
	return c, empty
}

func connect(b *testing.B) (client, server int) {
	b.Helper()
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(listener)
	if err := unix.Listen(listener, 1); err != nil {
		b.Fatal(err)
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		b.Fatal(err)
	}
	if client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		b.Fatal(err)
	}
	if err := unix.Connect(client, address); err != nil {
		b.Fatal(err)
	}
	if server, _, err = unix.Accept(listener); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		unix.Close(client)
		unix.Close(server)
	})
	return client, server
}
