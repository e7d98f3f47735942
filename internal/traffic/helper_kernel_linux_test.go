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

// A helper is this test binary, started again, so that it is a process of its own with its own
// sockets. It carries out commands, one on each line, and answers each with a line. It makes blocking
// system calls itself, without Go's poller, so that each packet is known.
const helperVariable = "NETTAP_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		help()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helper is a running helper. It ends with the test.
type helper struct {
	t       *testing.T
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// start starts a helper in a network namespace. heritage becomes its descriptor 3.
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

// do sends a command to the helper, and returns its answer when it is done.
func (h *helper) do(format string, words ...any) string {
	h.t.Helper()
	h.begin(format, words...)
	return h.end()
}

// begin sends a command to the helper, and does not wait.
func (h *helper) begin(format string, words ...any) {
	h.t.Helper()
	if _, err := fmt.Fprintf(h.in, format+"\n", words...); err != nil {
		h.t.Fatal(err)
	}
}

// end waits until the command is done, and returns the answer.
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
