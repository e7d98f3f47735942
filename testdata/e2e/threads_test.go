// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestDistributionForgetsEndedThreads runs C programs in which a thread ends within a span, and
// another thread gets its id, stack and thread-local variables.
func TestDistributionForgetsEndedThreads(t *testing.T) {
	const directory = "testdata/publisher/"
	built := t.TempDir()
	run(t, "gcc", "-rdynamic", "-pthread", "-o", filepath.Join(built, "program"), directory+"threads.c", directory+"context.c")
	run(t, "gcc", "-shared", "-fPIC", "-mtls-dialect=gnu", "-o", filepath.Join(built, "libcontext.so"), directory+"context.c")
	run(t, "gcc", "-pthread", "-o", filepath.Join(built, "library"), directory+"threads.c", "-L"+built, "-lcontext", "-Wl,-rpath,"+built)
	port := listen(t).Port
	c := StartWith(t, Options{Traces: true, Receivers: fmt.Sprintf(callsOfPublisher+`
	  trace_context: {sources: [otel_thread, go_labels, obi]}
	`, port, "program, library")})
	for _, name := range []string{"program", "library"} {
		t.Run(name, func(t *testing.T) {
			command := exec.Command(filepath.Join(built, name), fmt.Sprint(port))
			output := kerneltest.OutputOf(t, command)
			program := kerneltest.StartProgram(t, command)
			c.Wait("the program was looked at", func() bool {
				return len(c.Spans(Attributes{"process.pid": program.Process.Pid, "nettap.trace_context.source": "otel_thread"})) > 0
			})
			fmt.Fprintln(program.Input)
			var thread int
			if _, err := fmt.Sscan(output.Line(), &thread); err != nil {
				t.Fatal(err)
			}
			var got []string
			c.Wait("both threads have sent", func() bool {
				got = nil
				for _, span := range c.Spans(Attributes{"nettap.thread.id": thread, "nettap.call.syscall": "sendto"}) {
					got = append(got, strings.TrimSpace(fmt.Sprint(span.Attributes["nettap.trace_context.source"], " ", span.ParentSpanID())))
				}
				return len(got) >= 3
			})
			at := func(number int) string { return fmt.Sprintf("otel_thread %s%02x", strings.Repeat("d0", 7), number) }
			if diff := cmp.Diff([]string{at(1), "<nil>", at(2)}, got); diff != "" {
				t.Errorf("calls of the threads with one id differ (-want +got):\n%s", diff)
			}
		})
	}
}
