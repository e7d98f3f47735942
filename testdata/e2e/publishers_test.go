// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// callsOfPublisher is a receiver that reports every call of a command on a port.
const callsOfPublisher = callsAlone + `
	  calls:
	    {collection_interval: 100ms, initial_delay: 0s, min_duration: 0s, max_per_second: 0, filter: {ports: [%d], commands: [%s]}}
`

// TestDistributionReadsThreadContexts runs C programs in which the thread-local variable has to be
// found in different ways.
func TestDistributionReadsThreadContexts(t *testing.T) {
	const directory = "testdata/publisher/"
	f := startFollower(t, "publisher")
	for name, test := range map[string]struct {
		program []string // the flags of a program that has the variable itself; nil: a library has it
		library []string
	}{
		"in the program":  {program: []string{"-rdynamic"}},
		"initial exec":    {library: []string{"-ftls-model=initial-exec"}},
		"general dynamic": {library: []string{"-mtls-dialect=gnu"}},
		"a descriptor":    {library: []string{"-mtls-dialect=gnu2"}},
	} {
		for _, compiler := range []string{"gcc", "musl-gcc"} {
			t.Run(name+" by "+compiler, func(t *testing.T) {
				built := t.TempDir()
				program := filepath.Join(built, "publisher")
				if test.program != nil {
					run(t, compiler, append(test.program, "-o", program, directory+"publisher.c", directory+"context.c")...)
				} else {
					run(t, compiler, append(test.library, "-shared", "-fPIC", "-o", filepath.Join(built, "libcontext.so"), directory+"context.c")...)
					run(t, compiler, "-o", program, directory+"publisher.c", "-L"+built, "-lcontext", "-Wl,-rpath,"+built)
				}
				f.follow(t, program, "otel_thread", "publisher")
			})
		}
	}
}

// TestDistributionReadsGoLabels runs Go programs that were built in different ways.
func TestDistributionReadsGoLabels(t *testing.T) {
	t.Parallel()
	f := startFollower(t, "labels")
	for name, test := range map[string]struct {
		flags   []string
		setting []string
	}{
		"as usual":                {setting: []string{"CGO_ENABLED=0"}},
		"position-independent":    {flags: []string{"-buildmode=pie"}, setting: []string{"CGO_ENABLED=0"}},
		"stripped":                {flags: []string{"-ldflags=-s -w"}, setting: []string{"CGO_ENABLED=0"}},
		"with C code":             {setting: []string{"CGO_ENABLED=1"}},
		"with C code, everywhere": {flags: []string{"-buildmode=pie"}, setting: []string{"CGO_ENABLED=1"}},
		"with C code, all in one": {flags: []string{"-ldflags=-linkmode=external -extldflags=-static"}, setting: []string{"CGO_ENABLED=1"}},
		"by Go 1.23, in a map":    {setting: []string{"CGO_ENABLED=0", "GOTOOLCHAIN=go1.23.12"}},
	} {
		t.Run(name, func(t *testing.T) {
			version := exec.Command("go", "version")
			version.Env = append(os.Environ(), test.setting...)
			if output, err := version.CombinedOutput(); err != nil {
				t.Skipf("that release of Go cannot be had here: %v: %s", err, output)
			}
			program := filepath.Join(t.TempDir(), "labels")
			command := exec.Command("go", append(append([]string{"build", "-C", "testdata/labels", "-o", program}, test.flags...), ".")...)
			command.Env = append(os.Environ(), test.setting...)
			if output, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			f.follow(t, program, "go_labels", "unknown_service:labels")
		})
	}
}

func run(t *testing.T, name string, arguments ...string) {
	t.Helper()
	if output, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, output)
	}
}

// TestDistributionRefusesAnUnknownGo runs a program whose build information names a release of Go
// that does not exist.
func TestDistributionRefusesAnUnknownGo(t *testing.T) {
	const unknown = "go1.99.9"
	program := filepath.Join(t.TempDir(), "labels")
	run(t, "go", "build", "-C", "testdata/labels", "-o", program, ".")
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	pretended := (unknown + strings.Repeat("9", 99))[:len(info.GoVersion)]
	if err := os.WriteFile(program, bytes.ReplaceAll(content, []byte(info.GoVersion), []byte(pretended)), 0o755); err != nil {
		t.Fatal(err)
	}

	c := startFollower(t, commOf(program))
	command := kerneltest.StartProgram(t, exec.Command(program, fmt.Sprint(c.port)))
	warning := fmt.Sprintf("source go_labels is off for process %d, and for all programs that this release has built: unknown release of Go: %s for %s", command.Process.Pid, pretended, runtime.GOARCH)
	c.Wait("the program was looked at", func() bool { return strings.Contains(c.Log(), warning) })
	c.Wait("the refusal is counted", func() bool {
		return c.OwnValue("otelcol_nettap_trace_context_refused", "cause", "unknown_go_release") == 1
	})
	sends := func() []Span {
		return c.Spans(Attributes{"process.pid": command.Process.Pid, "nettap.call.syscall": "write"})
	}
	before := len(sends())
	c.Wait("its calls are reported", func() bool { return len(sends()) > before })
	command.End()
	for _, span := range sends() {
		if source := span.Attributes["nettap.trace_context.source"]; source != nil {
			t.Errorf("a call has a context by %v", source)
		}
	}
	if n := strings.Count(c.Log(), warning); n != 1 {
		t.Errorf("the log says %d times: %s", n, warning)
	}
}

// follower is a Collector that reports the calls on a port of programs that have a certain name.
type follower struct {
	*Collector
	port int
}

func startFollower(t *testing.T, comm string) follower {
	t.Helper()
	port := listen(t).Port
	return follower{StartWith(t, Options{Receivers: fmt.Sprintf(callsOfPublisher, port, comm), Traces: true}), port}
}

// follow runs a program that publishes its current span in the way of source, and requires that
// its calls are attributed to the spans in which it makes them.
func (c follower) follow(t *testing.T, program, source, service string) {
	t.Helper()
	command := kerneltest.StartProgram(t, exec.Command(program, fmt.Sprint(c.port)))
	relations := func() []string {
		var all []string
		for _, span := range c.Spans(Attributes{"process.pid": command.Process.Pid}) {
			if syscall := span.Attributes["nettap.call.syscall"]; syscall != "sendto" && syscall != "write" {
				continue
			}
			relation := fmt.Sprint(span.Attributes["nettap.trace_context.source"])
			if parent := span.ParentSpanID(); !parent.IsEmpty() {
				relation += fmt.Sprint(" ", span.TraceID(), " ", parent, " ", span.Attributes["service.name"])
			}
			all = append(all, relation)
		}
		return all
	}
	at := func(number int) string {
		return fmt.Sprintf("%s %s%02x %s%02x %s", source, strings.Repeat("c0", 15), number, strings.Repeat("d0", 7), number, service)
	}
	c.Wait("the program was looked at", func() bool {
		found := relations()
		return len(found) > 0 && found[len(found)-1] == at(0xff)
	})
	if _, err := fmt.Fprintln(command.Input); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for number := range 10 {
		want = append(want, at(number+1), "socket")
	}
	c.Wait("the program has sent everything", func() bool {
		got = relations()
		return len(got) > len(want) && got[len(got)-1] == "socket" && got[len(got)-2] == at(10)
	})
	if diff := cmp.Diff(want, got[len(got)-len(want):]); diff != "" {
		t.Errorf("the program's calls differ (-want +got):\n%s", diff)
	}
	for _, relation := range got[:len(got)-len(want)] {
		if relation != at(0xff) && relation != "<nil>" {
			t.Errorf("before that there is a call at %q", relation)
		}
	}
}
