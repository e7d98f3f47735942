// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"io"
	"os/exec"
	"testing"
	"time"
)

// Program is a process of a test that ends when its input ends.
type Program struct {
	*exec.Cmd
	Input io.WriteCloser
	t     testing.TB
}

// StartProgram starts a command with a pipe as its input, and ends it at the end of the test. Who
// wants to read its output sets that, for example by [OutputOf], before.
func StartProgram(t testing.TB, command *exec.Cmd) *Program {
	t.Helper()
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Program{command, input, t}
	t.Cleanup(p.End)
	return p
}

// End closes the input and waits until the program has ended, unless it has already. If the
// program fails, the test does, as it does if the program goes on and has to be killed.
func (p *Program) End() {
	p.t.Helper()
	if p.ProcessState != nil {
		return
	}
	p.Input.Close()
	defer time.AfterFunc(Patience, func() { p.Process.Kill() }).Stop() //nolint:errcheck // it may have ended
	if err := p.Wait(); err != nil {
		p.t.Error(err)
	}
}

// Kill ends the program at once, so that it cannot tidy up.
func (p *Program) Kill() {
	p.t.Helper()
	if err := p.Process.Kill(); err != nil {
		p.t.Error(err)
	}
	p.Wait() //nolint:errcheck // it was killed
}
