// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// TestKernelSeesWhatTheKernelCounts requires that nettap sees each packet that a counter counts, and that the packet would be unseen without
// the rule for it.
func TestKernelSeesWhatTheKernelCounts(t *testing.T) {
	lab := dropstest.NewLab(t)
	with, without := unseenIn(t, lab), unseenIn(t, lab)
	without.words.rules = nil
	for _, provocation := range dropstest.Counted() {
		t.Run(provocation.Name, func(t *testing.T) {
			before, all := collectUnseen(t, lab, with), collectUnseen(t, lab, without)
			want := provocation.Provoke(t, lab)
			if diff := settled(func() string {
				return cmp.Diff(want, grown(all, collectUnseen(t, lab, without)))
			}); diff != "" {
				t.Errorf("without rules unseen differs (-want +got):\n%s", diff)
			}
			if diff := settled(func() string {
				return cmp.Diff(map[string]int{}, grown(before, collectUnseen(t, lab, with)))
			}); diff != "" {
				t.Errorf("unseen differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKernelSaysWhatItDoesNotSee(t *testing.T) {
	lab := dropstest.NewLab(t)
	drops := unseenIn(t, lab)
	for _, provocation := range dropstest.Uncounted() {
		t.Run(provocation.Name, func(t *testing.T) {
			before := collectUnseen(t, lab, drops)
			want := provocation.Provoke(t, lab)
			if diff := settled(func() string { return cmp.Diff(want, grown(before, collectUnseen(t, lab, drops))) }); diff != "" {
				t.Errorf("unseen differs (-want +got):\n%s", diff)
			}
		})
	}
}

// unseenIn starts drops for which the namespace of a lab's receiver is the host's.
func unseenIn(t *testing.T, lab *dropstest.Lab) *Drops {
	t.Helper()
	drops := newDrops(new(stats.Recorder))
	drops.options.Unseen = true
	drops.counters.process, drops.inodeOfHost = "/proc/thread-self", ownNamespace
	kerneltest.Start(t, drops.interfaces)
	kerneltest.InNamespace(t, lab.Receiver.Name, func() { kerneltest.Start(t, drops) })
	if len(drops.words.reasons) == 0 {
		t.Skip("this kernel does not say why it drops")
	}
	return drops
}

// collectUnseen returns what is unseen in a lab's receiver.
func collectUnseen(t *testing.T, lab *dropstest.Lab, drops *Drops) (unseen map[string]int) {
	t.Helper()
	kerneltest.InNamespace(t, lab.Receiver.Name, func() {
		metrics, err := drops.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		unseen = dropstest.Unseen(metrics)
	})
	return unseen
}

// grown returns by how much counters have grown, without those that have not.
func grown(before, after map[string]int) map[string]int {
	by := map[string]int{}
	for counter, n := range after {
		if n != before[counter] {
			by[counter] = n - before[counter]
		}
	}
	return by
}
