// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// A helper is this test binary, started again: a process of its own with sockets
// of its own. It does what it is told, a line at a time, and answers each with a
// line. Its system calls block and are its own, so that each packet is known.
const helperVariable = "NETTAP_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		help()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helper is a running one. It ends with the test.
type helper struct {
	t       *testing.T
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// start starts a helper in a network namespace; heritage is its descriptor 3.
func start(t *testing.T, namespace string, heritage ...*os.File) *helper {
	t.Helper()
	h := newHelper("/proc/self/exe", heritage...)
	h.t = t
	h.command.Stderr = os.Stderr
	var err error
	kerneltest.InNamespace(t, namespace, func() { err = h.command.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	h.end() // it is ready
	return h
}

func newHelper(binary string, files ...*os.File) *helper {
	h := &helper{command: exec.Command(binary)}
	h.command.Env = append(os.Environ(), helperVariable+"=1")
	h.command.ExtraFiles = files
	h.in = must(h.command.StdinPipe())
	h.out = bufio.NewReader(must(h.command.StdoutPipe()))
	return h
}

func (h *helper) pid() int { return h.command.Process.Pid }

// stop ends the helper, and waits until it has.
func (h *helper) stop() {
	h.in.Close()
	h.command.Process.Kill() //nolint:errcheck // it may have ended
	h.command.Wait()         //nolint:errcheck // it was killed
}

// do tells the helper what to do and returns its answer, when it has done it.
func (h *helper) do(format string, words ...any) string {
	h.t.Helper()
	h.begin(format, words...)
	return h.end()
}

// begin tells the helper what to do.
func (h *helper) begin(format string, words ...any) {
	h.t.Helper()
	if _, err := fmt.Fprintf(h.in, format+"\n", words...); err != nil {
		h.t.Fatal(err)
	}
}

// end waits until it is done.
func (h *helper) end() string {
	h.t.Helper()
	answer := make(chan string)
	go func() {
		line, _ := h.out.ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case line := <-answer:
		if line == "" || strings.HasPrefix(line, "error") {
			h.t.Fatalf("helper %d: %s", h.pid(), line)
		}
		return line
	case <-time.After(patience):
		h.t.Fatalf("helper %d does not answer", h.pid())
	}
	return ""
}
