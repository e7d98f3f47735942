// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func TestMain(m *testing.M) {
	kerneltest.BeStuck()
	os.Exit(m.Run())
}

// TestKernelAProcessThatServesItsOwnMemoryHoldsUpNobody has one process that serves a page of its memory itself and
// never does, and asks about another one later.
func TestKernelAProcessThatServesItsOwnMemoryHoldsUpNobody(t *testing.T) {
	kerneltest.Require(t)
	for pager, test := range map[kerneltest.Pager]struct {
		causes []string
		known  bpfObservedFlag
	}{
		kerneltest.ByFUSE:   {[]string{"slow_process"}, 0},
		kerneltest.ByFaults: {[]string{"slow_process", "unreadable_publication"}, bpfObservedFlagOBSERVED_WANTED},
	} {
		t.Run(string(pager), func(t *testing.T) {
			stuck := kerneltest.StartStuck(t, pager)
			other := kerneltest.StartProgram(t, exec.Command("cat"))
			c := NewContexts(Options{Sources: []Source{OTelThread}})
			kerneltest.Run(t, c)

			await(t, "the process to be given up", func() bool {
				counts, err := c.Counts()
				return err == nil && slices.ContainsFunc(test.causes, func(cause string) bool { return counts.Refused[cause] > 0 })
			})
			await(t, "an answer about the other one", func() bool {
				known, err := c.observed(uint32(other.Process.Pid))
				return err == nil && known.Flags&bpfObservedFlagOBSERVED_WANTED != 0
			})
			if known, err := c.observed(uint32(stuck)); err == nil && known.Flags&^test.known != 0 {
				t.Errorf("of the process with the stuck page it is known %+v", known)
			}
			if counts, err := c.Counts(); err == nil {
				t.Logf("counts of what was refused: %v", counts.Refused)
			}
			begun := time.Now()
			if err := c.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("the shutdown took %v", took)
			}
		})
	}
}
