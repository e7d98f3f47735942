// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/stats"
)

func TestKernelSeesNoLossWhereNothingIsLost(t *testing.T) {
	drops := startDrops(t, new(stats.Recorder))
	lab := dropstest.NewLab(t)
	lost := func(t *testing.T) map[dropstest.Drop]int {
		lost := everyDropOn(t, drops, lab.Sender.Device)
		for drop, packets := range everyDropOn(t, drops, lab.Receiver.Device) {
			lost[drop] += packets
		}
		maps.DeleteFunc(lost, func(drop dropstest.Drop, _ int) bool { return drop.Class != "loss" })
		return lost
	}
	for _, everyday := range dropstest.EverydayLife() {
		t.Run(everyday.Name, func(t *testing.T) {
			before := lost(t)
			everyday.Do(t, lab)
			if diff := cmp.Diff(before, lost(t)); diff != "" {
				t.Errorf("something is lost (-before +after):\n%s", diff)
			}
		})
	}
}

func TestKernelClassesEmptySegmentsAsBenign(t *testing.T) {
	kerneltest.NeedDroppers(t)
	drops := startDrops(t, new(stats.Recorder))
	lab := dropstest.NewLab(t)
	want := dropstest.Stray(t, lab)
	if len(drops.words.reasons) == 0 { // without reasons they are one series
		want = []dropstest.Drop{asKnown(drops, want[0])}
		want[0].Packets = 21
	}
	if diff := settled(func() string {
		got := since(nil, dropsOn(t, drops, lab.Receiver.Device))
		slices.SortFunc(got, func(a, b dropstest.Drop) int { return strings.Compare(a.Class, b.Class) })
		return cmp.Diff(want, got)
	}); diff != "" {
		t.Errorf("drops differ (-want +got):\n%s", diff)
	}
}
