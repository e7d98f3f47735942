// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// BenchmarkMessage sends a message over a TCP connection and receives it. By the kernel's
// statistics it reports how much longer a run of each program takes than a run of an empty program
// that was attached to the same hook before.
func BenchmarkMessage(b *testing.B) {
	plain := strings.Repeat("x", 400)
	head := "GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n"
	traceparent := "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"
	all := []Source{HTTP, OTelThread, GoLabels, OBI, Socket}
	for _, test := range []struct {
		name    string
		message string
		sources []Source
		publish func(b *testing.B, c *Contexts) // publishes a span for this thread
	}{
		{name: "no sources", message: plain},
		{name: "no head", message: plain, sources: []Source{HTTP}},
		{name: "nothing published", message: plain, sources: []Source{HTTP, OTelThread, OBI, Socket}},
		{name: "a goroutine without labels", message: plain, sources: all},
		{name: "a goroutine with labels", message: plain, sources: []Source{GoLabels}, publish: label},
		{name: "a thread with a record", message: plain, sources: []Source{OTelThread}, publish: record},
		{name: "a thread that OBI knows", message: plain, sources: []Source{OBI}, publish: tellOBI},
		{name: "a head without one", message: head + "\r\n" + plain, sources: []Source{HTTP, OTelThread, OBI, Socket}},
		{name: "a head with one", message: head + traceparent, sources: []Source{HTTP}},
		{name: "a head with one, remembered", message: head + traceparent, sources: []Source{HTTP, Socket}},
	} {
		b.Run(test.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			kerneltest.CountRuns(b)
			client, server := connect(b)
			exchange := func(more func() bool) {
				buffer := make([]byte, len(test.message))
				for copy(buffer, test.message); more(); {
					if _, err := unix.Write(client, buffer); err != nil {
						b.Fatal(err)
					}
					if _, err := unix.Read(server, buffer); err != nil {
						b.Fatal(err)
					}
				}
			}
			tracepoints := map[string]string{"see_send": "sock_send_length", "see_receive": "sock_recv_length"}
			empty := kerneltest.EmptyRuns(b, tracepoints, exchange)
			c := startMessages(b, test.sources)
			if test.publish != nil {
				test.publish(b, c)
			}
			before, err := c.Counts()
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			exchange(b.Loop)
			b.StopTimer()
			for name, nothing := range empty {
				ours, runs := kerneltest.PerRun(b, c.object.Programs[name])
				if runs < uint64(b.N)/2 {
					b.Fatalf("%s ran %d times", name, runs)
				}
				b.ReportMetric(ours-nothing, name+"-ns/run")
			}
			if after, err := c.Counts(); err != nil || test.publish != nil && cmp.Equal(before.Found, after.Found) {
				b.Errorf("nothing was found: %+v: %v", after, err)
			}
		})
	}
}

// startMessages starts the programs at the tracepoints of messages.
func startMessages(b *testing.B, sources []Source) *Contexts {
	b.Helper()
	c := NewContexts(Options{
		Sources: sources, HeadBytes: 2048, TraceIDLabel: "trace_id", SpanIDLabel: "span_id", SocketTTL: time.Minute,
		OBIMap: "/sys/fs/bpf/nettap-is-not-there", LateBind: time.Second,
	})
	if err := c.Start(b.Context()); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { c.Shutdown(b.Context()) })
	if c.object.Programs[bpfProgSeeSend] == nil {
		b.Skip("the tracepoints of messages are not in use here")
	}
	if err := c.Enable(); err != nil {
		b.Fatal(err)
	}
	return c
}

const benchTrace, benchSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

// label gives the goroutine labels, and waits until the inspector has found them.
func label(b *testing.B, c *Contexts) {
	pprof.SetGoroutineLabels(pprof.WithLabels(b.Context(), pprof.Labels("span_id", benchSpan, "trace_id", benchTrace)))
	b.Cleanup(func() { pprof.SetGoroutineLabels(b.Context()) })
	for known := (bpfObserved{}); known.Flags&bpfObservedFlagOBSERVED_GO == 0; time.Sleep(time.Millisecond) {
		if err := c.inspector.processes.Lookup(uint32(os.Getpid()), &known); err != nil {
			b.Fatal(err)
		}
	}
}

// threadRecord is a record of OTEP 4947, and recordPointer takes the place of the thread-local
// pointer to it.
var (
	threadRecord  = append(benchContext(), 1, 1, 0, 0)
	recordPointer = &threadRecord[0]
)

func benchContext() []byte {
	context, err := hex.DecodeString(benchTrace + benchSpan)
	if err != nil {
		panic(err)
	}
	return context
}

// record tells the kernel side where this thread's pointer is, since the thread has no
// thread-local variables.
func record(b *testing.B, c *Contexts) {
	at := threadPointer(b)
	if err := c.inspector.Close(); err != nil { // the inspector would find no such variable
		b.Fatal(err)
	}
	pid := uint32(os.Getpid())
	var known bpfObserved
	if err := c.inspector.processes.Lookup(pid, &known); err != nil {
		b.Fatal(err)
	}
	known.Flags = bpfObservedFlagOBSERVED_WANTED | bpfObservedFlagOBSERVED_THREAD_SLOT
	known.SlotOffset = int64(uint64(uintptr(unsafe.Pointer(&recordPointer))) - at)
	if err := c.inspector.processes.Put(pid, known); err != nil {
		b.Fatal(err)
	}
}

// tellOBI puts a map with this thread in the place of OBI's map.
func tellOBI(b *testing.B, c *Contexts) {
	m, err := ebpf.NewMap(&kerneltest.OBIMap)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	thread := uint64(os.Getpid())<<32 | uint64(unix.Gettid())
	err = errors.Join(c.inspector.Close(), m.Put(thread, benchContext()), c.inspector.obi.slot.Put(uint32(0), m), c.inspector.obi.isThere.Set(true))
	if err != nil {
		b.Fatal(err)
	}
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
