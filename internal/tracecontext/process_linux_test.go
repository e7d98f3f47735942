// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bufio"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// start runs a program until the test ends. It returns its pid and the lines that it printed
// before "ready". The program ends when its input ends.
func start(t *testing.T, command *exec.Cmd) (pid int, lines []string) {
	t.Helper()
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	command.Stderr = &complaints
	program := kerneltest.StartProgram(t, command)
	printed := bufio.NewScanner(output)
	for printed.Scan() {
		if printed.Text() == "ready" {
			go io.Copy(io.Discard, output)
			return command.Process.Pid, lines
		}
		lines = append(lines, printed.Text())
	}
	program.End()
	t.Fatalf("%v ended before it was ready: %q %s", command, lines, complaints.String())
	return 0, nil
}

// build runs a compiler, and skips the test if there is none. It returns the path of its output.
func build(t *testing.T, name, compiler string, arguments ...string) string {
	t.Helper()
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skipf("this test builds programs: %v", err)
	}
	path := filepath.Join(t.TempDir(), name)
	command := exec.CommandContext(t.Context(), compiler, append(arguments, "-o", path)...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, output)
	}
	return path
}

// slotOf finds the slot of a running process.
func slotOf(pid int, cache *elfCache) (threadSlot, error) {
	process := processDirectory("/proc", pid)
	mappings, err := readMaps(process)
	if err != nil {
		return threadSlot{}, err
	}
	return findThreadSlot(process, mappings, cache)
}

// contextOf reads what a running process publishes.
func contextOf(pid int) (publishedContext, error) {
	process := processDirectory("/proc", pid)
	mappings, err := readMaps(process)
	if err != nil {
		return publishedContext{}, err
	}
	return readPublishedContext(process, mappings)
}
