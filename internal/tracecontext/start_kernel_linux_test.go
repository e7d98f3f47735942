// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelTheStartRunsNoProgram requires that the hook of programs is proven by a program that
// something else runs, and not by one that the start runs.
func TestKernelTheStartRunsNoProgram(t *testing.T) {
	kerneltest.Require(t)
	before := childrenFaults(t)
	c := NewContexts(Options{Sources: []Source{OTelThread}})
	kerneltest.Start(t, c)
	if after := childrenFaults(t); after != before {
		t.Error("the start has run a program")
	}
	if err := exec.CommandContext(t.Context(), "true").Run(); err != nil {
		t.Fatal(err)
	}
	hooks, ok := c.Hooks()
	i := slices.IndexFunc(hooks, func(h kernel.Hook) bool { return h.Job == "exec" })
	if !ok || i < 0 || hooks[i].Unproven != "" {
		t.Errorf("after a program was run the hooks are %+v", hooks)
	}
}

// childrenFaults returns how many page faults children of this process had, a number that changes
// with each child.
func childrenFaults(t *testing.T) int64 {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Minflt
}
