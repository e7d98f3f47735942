package traffic

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// A helper is this test binary, started again: a process of its own, with
// sockets of its own, that does what the words of helperVariable say. It talks
// in lines: it says what it has done, and waits to be told to go on.
const helperVariable = "NETTAP_TEST_HELPER"

var helpers = map[string]func(words []string){
	"idle": func([]string) { io.Copy(io.Discard, os.Stdin) },
}

func TestMain(m *testing.M) {
	if words := strings.Fields(os.Getenv(helperVariable)); len(words) > 0 {
		helpers[words[0]](words[1:])
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

// start starts a helper in a network namespace; files are its descriptors from 3 on.
func start(t *testing.T, namespace string, words string, files ...*os.File) *helper {
	t.Helper()
	h := &helper{t: t, command: exec.Command("/proc/self/exe")}
	h.command.Env = append(os.Environ(), helperVariable+"="+words)
	h.command.Stderr = os.Stderr
	h.command.ExtraFiles = files
	var err error
	if h.in, err = h.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.out = bufio.NewReader(out)
	kerneltest.InNamespace(t, namespace, func() { err = h.command.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	return h
}

func (h *helper) pid() int { return h.command.Process.Pid }

// stop lets the helper end, and waits for it.
func (h *helper) stop() {
	h.in.Close()
	h.command.Process.Kill() //nolint:errcheck // it may have ended
	h.command.Wait()         //nolint:errcheck // it was killed
}

// hear returns the helper's next line.
func (h *helper) hear() string {
	h.t.Helper()
	line, err := h.out.ReadString('\n')
	if err != nil {
		h.t.Fatalf("helper %v ended: %v", h.command.Env[len(h.command.Env)-1], err)
	}
	return strings.TrimSpace(line)
}

// tell sends the helper a line.
func (h *helper) tell(line string) {
	h.t.Helper()
	if _, err := fmt.Fprintln(h.in, line); err != nil {
		h.t.Fatal(err)
	}
}
