// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func TestMain(m *testing.M) {
	kerneltest.BeStuck()
	os.Exit(m.Run())
}

// TestKernelACommandLineThatCannotBeReadIsNotWaitedFor describes a process that is to serve its
// own memory and never does, and another one beside it.
func TestKernelACommandLineThatCannotBeReadIsNotWaitedFor(t *testing.T) {
	kerneltest.Require(t)
	for _, pager := range []kerneltest.Pager{kerneltest.ByFUSE, kerneltest.ByFaults} {
		t.Run(string(pager), func(t *testing.T) { describeStuck(t, kerneltest.StartStuck(t, pager)) })
	}
}

func describeStuck(t *testing.T, pid int) {
	t.Helper()
	d := NewDirectory("", clock.New())
	d.ReadCommandLines = true
	begun := time.Now()
	p := d.Describe(idOf(t, pid), Seen{})
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if p.CommandLine != "" || p.Executable != filepath.Base(os.Args[0]) {
		t.Errorf("a process with a stuck page is %+v, want all but its command line", p)
	}
	for self := idOf(t, os.Getpid()); ; { // on a busy machine this may take longer than commandLine waits
		other := NewDirectory("", clock.New())
		other.proc, other.ReadCommandLines = d.proc, true
		if other.Describe(self, Seen{}).CommandLine != "" {
			break
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatal("another process has no command line")
		}
	}
}

// idOf returns as much of the identity of a process as /proc has.
func idOf(t *testing.T, pid int) ID {
	t.Helper()
	found, err := procfs.NewProc(pid)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := found.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return ID{PID: uint32(pid), StartNanos: stat.Starttime * nanosPerTick}
}
