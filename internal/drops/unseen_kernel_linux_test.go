// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// TestKernelSeesWhatTheKernelCounts has the provocations that were tried on all kernels of the matrix.
func TestKernelSeesWhatTheKernelCounts(t *testing.T) {
	requireSeen(t, dropstest.CountedProvocation.TriedEverywhere)
}

// TestKernelSeesWhatEachRowCounts has the others.
func TestKernelSeesWhatEachRowCounts(t *testing.T) {
	requireSeen(t, func(p dropstest.CountedProvocation) bool { return !p.TriedEverywhere() })
}

// requireSeen requires that nettap sees each packet that a counter counts, and that the packet would be
// unseen without the rule for it.
func requireSeen(t *testing.T, of func(dropstest.CountedProvocation) bool) {
	t.Helper()
	lab := dropstest.NewLab(t)
	with, without := unseenIn(t, lab), unseenIn(t, lab)
	without.words.rules = nil
	for _, provocation := range dropstest.Counted() {
		if !of(provocation) {
			continue
		}
		t.Run(provocation.Name, func(t *testing.T) {
			before, all := collectUnseen(t, lab, with), collectUnseen(t, lab, without)
			entered := entered(with)
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
			for _, missed := range missedRules(with, entered, provocation.Name, want) {
				t.Errorf("no drop matches %v", missed)
			}
		})
	}
}

// entered returns how many packets each entry has.
func entered(drops *Drops) map[source]uint64 {
	packets := map[source]uint64{}
	for from, e := range drops.ledger.entries {
		packets[from] = e.packets
	}
	return packets
}

// missedRules returns the rules that a provocation should test of a kernel, and that no drop matches
// since packets were entered. Of those that differ by their function one is enough, as its name
// depends on the kernel. grown are the counters that the provocation lets grow.
func missedRules(drops *Drops, before map[source]uint64, provocation string, grown map[string]int) (missed []rule) {
	given := map[string]bool{ownReasons[reasonListenOverflow]: true}
	for _, name := range drops.words.reasons {
		given[name] = true
	}
	tested := map[rule]bool{}
	for _, r := range drops.words.rules {
		if r.provoked != provocation || grown[r.counter] == 0 || !given[r.reason] {
			continue
		}
		anywhere := r
		anywhere.function = ""
		for from, e := range drops.ledger.entries {
			if slices.Contains(e.counters, r.counter) && e.packets > before[from] && r.matches(e.lines[0].series, true) {
				tested[anywhere] = true
			}
		}
		tested[anywhere] = tested[anywhere] || false
	}
	for r, hit := range tested {
		if !hit {
			missed = append(missed, r)
		}
	}
	return missed
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
