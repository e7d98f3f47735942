// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// killedVariable is an environment variable that says how [TestKilled] starts a Collector.
const killedVariable = "NETTAP_TEST_KILLED"

// withoutNettap is a Collector that starts fast.
const withoutNettap = "otlp: {protocols: {http: {endpoint: 127.0.0.1:0}}}"

var killedTests = map[string]Options{
	"as root":              {Receivers: withoutNettap},
	"as nobody":            {Receivers: withoutNettap, Capabilities: capabilities},
	"in a mount namespace": {Receivers: withoutNettap, Wrap: append(alone(`exec "$@"`), "sh")},
}

// TestDistributionEndsWithItsTest kills tests that have started a Collector.
func TestDistributionEndsWithItsTest(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range killedTests {
		t.Run(name, func(t *testing.T) {
			// What is in the directory stays when the other test is killed. The user nobody has to find its configuration there.
			directory := t.TempDir()
			if err := os.Chmod(filepath.Dir(directory), 0o755); err != nil {
				t.Fatal(err)
			}
			command := exec.Command(own, "-test.run=^TestKilled$")
			command.Env = append(os.Environ(), killedVariable+"="+name, "TMPDIR="+directory)
			output, err := command.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			killed := kerneltest.StartProgram(t, command)
			var pid int
			if _, err := fmt.Fscanln(bufio.NewReader(output), &pid); err != nil {
				t.Fatal(err)
			}
			collector, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(collector)
			killed.Kill()
			defer unix.PidfdSendSignal(collector, unix.SIGKILL, nil, 0) //nolint:errcheck // it should have ended
			kerneltest.AwaitInput(t, collector)                         // its end
		})
	}
}

// TestKilled is run by [TestDistributionEndsWithItsTest].
func TestKilled(t *testing.T) {
	options, ok := killedTests[os.Getenv(killedVariable)]
	if !ok {
		t.Skip("it is part of another test")
	}
	fmt.Println(StartWith(t, options).PID())
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // the input does not end before the test is killed
}
