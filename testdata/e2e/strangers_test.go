// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestDistributionBelievesOBI imitates OBI: after the distribution has started, it pins a map in
// which a thread of this process has a span, and then ends, which leaves the map behind.
func TestDistributionBelievesOBI(t *testing.T) {
	path := kerneltest.OBIPath(t)
	address := listen(t)
	c := StartWith(t, Options{Traces: true, Receivers: fmt.Sprintf(callsAlone+`
	  calls: {collection_interval: 100ms, initial_delay: 0s, min_duration: 0s, max_per_second: 0, filter: {ports: [%d]}}
	  trace_context: {obi: {map: %q}}
	`, address.Port, path)})
	runtime.LockOSThread() // the keys of OBI's map are threads
	defer runtime.UnlockOSThread()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	context, err := hex.DecodeString(traceID + spanID)
	if err != nil {
		t.Fatal(err)
	}
	// sources makes one more call and returns the sources of all calls' contexts, in
	// order and without repetitions.
	sources := func() (found []string) {
		if err := unix.Sendto(fd, []byte("x"), 0, nil); err != nil {
			t.Fatal(err)
		}
		for _, span := range c.Spans(Attributes{"nettap.thread.id": unix.Gettid(), "nettap.call.syscall": "sendto"}) {
			found = append(found, fmt.Sprint(span.Attributes["nettap.trace_context.source"], " ", span.TraceID().String() == traceID, " ", span.ParentSpanID()))
		}
		return slices.Compact(found)
	}
	ends := func(want ...string) func() bool {
		return func() bool { return slices.Equal(sources(), want) }
	}
	const nothing, believed, socket = "<nil> false ", "obi true " + spanID, "socket false "
	c.Wait("a call without a context is reported", ends(nothing))
	m := kerneltest.PinOBIMap(t, path, kerneltest.OBIMap)
	if err := m.Put(uint64(os.Getpid())<<32|uint64(unix.Gettid()), context); err != nil {
		t.Fatal(err)
	}
	c.Wait("OBI is believed", ends(nothing, believed))
	m.Close() // the map stays pinned
	c.Wait("the thread has no context any more, only its socket", ends(nothing, believed, socket))
	for _, said := range []string{"source obi is on: OBI has pinned its map at " + path, "source obi is off: OBI has ended and has left its map behind: " + path} {
		c.Wait("the log says "+said, func() bool { return strings.Contains(c.Log(), said) })
	}
}

// sends is a program that publishes no context, and sends on a connection.
const sends = `
import socket, sys
sys.stdin.readline()
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in range(10): connection.send(b"x")
sys.stdin.readline()
`

// TestDistributionTellsAReusedPID ends a process that publishes its context, and starts another one
// with the same pid.
func TestDistributionTellsAReusedPID(t *testing.T) {
	const directory, tries = "testdata/publisher/", 50
	publisher := filepath.Join(t.TempDir(), "publisher")
	run(t, "gcc", "-rdynamic", "-o", publisher, directory+"publisher.c", directory+"context.c")
	port := listen(t).Port
	c := StartWith(t, Options{Receivers: fmt.Sprintf(callsOfPublisher, port, "publisher, python3"), Traces: true})
	first := kerneltest.StartProgram(t, exec.Command(publisher, fmt.Sprint(port)))
	pid := first.Process.Pid
	c.Wait("the first process is known", func() bool {
		return len(c.Spans(Attributes{"process.pid": pid, "nettap.trace_context.source": "otel_thread"})) > 0
	})
	fmt.Fprintln(first.Input)
	first.End()

	for range tries {
		kerneltest.NextID(t, pid)
		second := kerneltest.StartProgram(t, exec.Command("/usr/bin/python3", "-c", sends, fmt.Sprint(port)))
		if second.Process.Pid != pid { // another process on this machine got the pid
			second.Process.Kill() //nolint:errcheck // it may have ended
			second.Wait()         //nolint:errcheck // it was killed
			continue
		}
		fmt.Fprintln(second.Input)
		c.Wait("the second process is seen", func() bool {
			return len(c.Spans(Attributes{"process.pid": pid, "nettap.process.comm": "python3", "nettap.call.syscall": "sendto"})) >= 10
		})
		second.End()
		for _, span := range c.Spans(Attributes{"process.pid": pid, "nettap.process.comm": "python3"}) {
			if source := span.Attributes["nettap.trace_context.source"]; source != nil || span.Attributes["service.name"] == "publisher" {
				t.Errorf("a call of the second process has a context by %v, and is of service %v", source, span.Attributes["service.name"])
			}
		}
		return
	}
	t.Fatalf("no process got pid %d in %d tries", pid, tries)
}
