// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"io"
	"os/exec"
	"testing"
)

// Program is a process of a test that ends with its input.
type Program struct {
	*exec.Cmd
	Input io.WriteCloser
	t     testing.TB
}

// StartProgram starts a command. When the test ends it has ended too.
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

// End closes the input and waits until the program has ended, if it has not yet. One
// that fails fails the test.
func (p *Program) End() {
	p.t.Helper()
	if p.ProcessState != nil {
		return
	}
	p.Input.Close()
	if err := p.Wait(); err != nil {
		p.t.Error(err)
	}
}
