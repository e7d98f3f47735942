// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func TestMain(m *testing.M) {
	kerneltest.BeStuck()
	os.Exit(m.Run())
}

// TestKernelAProcessThatServesItsOwnMemoryHoldsUpNobody has one process whose memory can never be
// read, and asks about another one later.
func TestKernelAProcessThatServesItsOwnMemoryHoldsUpNobody(t *testing.T) {
	kerneltest.Require(t)
	stuck := kerneltest.StartStuck(t)
	other := kerneltest.StartProgram(t, exec.Command("cat"))
	c := NewContexts(Options{Sources: []Source{OTelThread}})
	kerneltest.Run(t, c)

	await(t, "the process to be given up", func() bool {
		counts, err := c.Counts()
		return err == nil && counts.Refused["slow_process"] > 0
	})
	await(t, "an answer about the other one", func() bool {
		known, err := c.observed(uint32(other.Process.Pid))
		return err == nil && known.Flags&bpfObservedFlagOBSERVED_WANTED != 0
	})
	if known, err := c.observed(uint32(stuck)); err == nil && known.Flags != 0 {
		t.Errorf("of the process with the stuck page it is known %+v", known)
	}
	begun := time.Now()
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
}
