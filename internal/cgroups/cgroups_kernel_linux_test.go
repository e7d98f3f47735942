// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

func TestKernelWatchesEachCgroup(t *testing.T) {
	c, b := watch(t, 0)
	first, second := kerneltest.Container(t), kerneltest.Container(t)
	ids := map[uint64]bool{idOf(t, first): true, idOf(t, second): true}
	want := []process.CgroupChange{
		{ID: idOf(t, first), Path: first.Path}, {ID: idOf(t, second), Path: second.Path}, {ID: idOf(t, first)},
	}
	first.Remove(t)

	if diff := cmp.Diff(want, c.changes(t, ids)); diff != "" {
		t.Errorf("changes differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]process.CgroupChange(nil), c.changes(t, ids)); diff != "" {
		t.Errorf("changes are told twice:\n%s", diff)
	}
	totals := b.Read()
	if len(totals.Hooks) != 2 || totals.Hooks[0].Unproven != "" || totals.Hooks[1].Unproven != "" {
		t.Errorf("the hooks in use are %+v, want two that were seen to fire", totals.Hooks)
	}
	if totals.Seen < 3 || totals.Seen != totals.Aggregated {
		t.Errorf("the counts are %+v, want all that was seen, and nothing lost", totals.Counts)
	}
}

func TestKernelNamesWhatOfCgroupsIsLost(t *testing.T) {
	c, b := watch(t, os.Getpagesize())
	for range os.Getpagesize() / 100 {
		kerneltest.Container(t).Remove(t)
	}

	if whole, err := c.Changes(func(process.CgroupChange) {}); whole || err != nil {
		t.Errorf("Changes() says that it is whole: %v, with error %v, though the ring was too small", whole, err)
	}
	totals := b.Read()
	if totals.Lost["ring_full"] == 0 || totals.Seen != totals.Aggregated+totals.Lost["ring_full"] {
		t.Errorf("the counts are %+v, want some lost to the ring", totals.Counts)
	}
	after := kerneltest.Container(t)
	if got := c.changes(t, map[uint64]bool{idOf(t, after): true}); len(got) != 1 {
		t.Errorf("after that a new cgroup is %+v", got)
	}
}

// Several instruments use it, and the receiver may start again.
func TestKernelWatchesWhileSomebodyUsesIt(t *testing.T) {
	c, _ := watch(t, 0)
	for range 2 {
		again := func() {
			kerneltest.Run(t, c)
			if err := c.Shutdown(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		again()
		made := kerneltest.Container(t)
		if got := c.changes(t, map[uint64]bool{idOf(t, made): true}); len(got) != 1 {
			t.Errorf("a new cgroup is %+v, while one instrument still uses the watch", got)
		}
		again()
	}
	if err := c.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if whole, err := c.Changes(nil); whole || err != nil {
		t.Errorf("after its end Changes() = %v, %v", whole, err)
	}
	kerneltest.Run(t, c) // the test's own end shuts it down
	made := kerneltest.Container(t)
	if got := c.changes(t, map[uint64]bool{idOf(t, made): true}); len(got) != 1 {
		t.Errorf("a new cgroup is %+v, when the watch was started again", got)
	}
}

// The receiver runs on without it.
func TestKernelWatchesNothingWhereHooksAreAvoided(t *testing.T) {
	kerneltest.Require(t)
	b := new(stats.Recorder)
	kerneltest.Start(t, New([]string{"tp_btf"}, b))

	hooks := b.Read().Hooks
	if len(hooks) != 1 || hooks[0].NotSeen != notSeen || len(hooks[0].Refused) != 1 {
		t.Errorf("the hooks are %+v, want what is not seen and why", hooks)
	}
}

// watched is a watch in a test.
type watched struct{ *Cgroups }

func watch(t *testing.T, ringBytes int) (watched, *stats.Recorder) {
	t.Helper()
	b := new(stats.Recorder)
	c := New(nil, b)
	c.ringBytes = ringBytes
	kerneltest.Start(t, c)
	for _, hook := range b.Read().Hooks {
		if len(hook.Refused) != 0 {
			t.Fatalf("the watch does not run: %v", hook.Refused)
		}
	}
	return watched{c}, b
}

// changes returns those of the given cgroups. Others come and go on the machine.
func (c watched) changes(t *testing.T, ids map[uint64]bool) []process.CgroupChange {
	t.Helper()
	var changes []process.CgroupChange
	whole, err := c.Changes(func(change process.CgroupChange) { changes = append(changes, change) })
	if !whole || err != nil {
		t.Errorf("Changes() says that it is whole: %v, with error %v", whole, err)
	}
	return slices.DeleteFunc(changes, func(change process.CgroupChange) bool { return !ids[change.ID] })
}

func idOf(t *testing.T, c kerneltest.Cgroup) uint64 {
	t.Helper()
	root, err := host.CgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(root, c.Path))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}
