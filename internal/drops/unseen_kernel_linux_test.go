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

// TestKernelSeesWhatTheKernelCounts requires that of each packet that a counter counts nettap has a drop,
// by the rows of the table that are for it, and no more drops than the counter has. Where there is never
// a packet to see, all that a counter counts is unseen.
func TestKernelSeesWhatTheKernelCounts(t *testing.T) {
	lab := dropstest.NewLab(t)
	drops := unseenIn(t, lab)
	requireSeen(t, lab, drops, dropstest.Counted())
	silent := dropstest.NewLab(t)
	silent.Silence(t)
	requireSeen(t, silent, unseenIn(t, silent), dropstest.CountedQueues())
	for _, provocation := range dropstest.Uncounted() {
		t.Run(provocation.Name, func(t *testing.T) {
			before := collectCounts(t, lab, drops)
			grown := provocation.Provoke(t, lab)
			requireCounts(t, lab, drops, before, counts{counted: grown, covered: map[string]int{}, unseen: grown})
		})
	}
}

func requireSeen(t *testing.T, lab *dropstest.Lab, drops *Drops, provocations []dropstest.CountedProvocation) {
	t.Helper()
	for _, provocation := range provocations {
		t.Run(provocation.Name, func(t *testing.T) {
			before, entered := collectCounts(t, lab, drops), entered(drops)
			grown := provocation.Provoke(t, lab)
			requireCounts(t, lab, drops, before, counts{counted: grown, covered: grown, unseen: map[string]int{}})
			for _, missed := range missedRules(drops, entered, provocation.Name, grown) {
				t.Errorf("no drop matches %v", missed)
			}
			if t.Failed() {
				logDrops(t, drops, entered)
			}
		})
	}
}

func requireCounts(t *testing.T, lab *dropstest.Lab, drops *Drops, before, want counts) {
	t.Helper()
	if diff := settled(func() string {
		got := collectCounts(t, lab, drops).since(before)
		for counter, n := range got.vague {
			if _, wanted := want.counted[counter]; !wanted && got.covered[counter] == n {
				delete(got.covered, counter)
			}
		}
		got.vague = nil
		if len(want.counted) == 0 {
			// The kernel counts nothing of what happened, as Linux 6.18 does when UDP has no memory left.
			got.covered = want.covered
		}
		return cmp.Diff(want, got, cmp.AllowUnexported(counts{}))
	}); diff != "" {
		t.Errorf("what the kernel counts, and the drops for it, differ (-want +got):\n%s", diff)
	}
}

// logDrops logs the drops since packets were entered.
func logDrops(t *testing.T, drops *Drops, before map[source]uint64) {
	t.Helper()
	for from, e := range drops.ledger.entries {
		if e.packets > before[from] {
			t.Logf("%d drops of %+v are in %v", e.packets-before[from], e.lines[0].series, e.counters)
		}
	}
}

// counts are numbers of packets by counter: those that the kernel counted, those that we have of them,
// and those that are unseen. Of those that we have, vague have no reason: they may be of another counter
// for what the same function drops.
type counts struct{ counted, covered, unseen, vague map[string]int }

func collectCounts(t *testing.T, lab *dropstest.Lab, drops *Drops) counts {
	t.Helper()
	c := counts{counted: map[string]int{}, covered: map[string]int{}, unseen: collectUnseen(t, lab, drops), vague: map[string]int{}}
	for _, e := range drops.ledger.entries {
		if e.lines[0].reason == "not_specified" {
			for _, counter := range e.counters {
				c.vague[counter] += int(e.packets)
			}
		}
	}
	kerneltest.InNamespace(t, lab.Receiver.Name, func() {
		s := &snapshot{survey: drops.survey}
		if err := drops.readCounters(s); err != nil {
			t.Fatal(err)
		}
		for _, counter := range drops.unseen.counters {
			c.counted[counter], c.covered[counter] = int(s.counters[counter]), int(drops.ledger.covered[counter])
		}
	})
	return c
}

func (c counts) since(before counts) counts {
	return counts{
		grown(before.counted, c.counted), grown(before.covered, c.covered), grown(before.unseen, c.unseen), grown(before.vague, c.vague),
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
