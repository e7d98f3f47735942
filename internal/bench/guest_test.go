// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
)

func TestGuestsOfAKernelAreJoined(t *testing.T) {
	whole := example("6.18.1", 2000)
	whole.Measures = append(whole.Measures, measure.Measure{Case: measure.All, Rung: "tp_btf/c", Of: of(16000, 30000, 120000, 9000, 300)})
	apart := measured{Title: whole.Title, Kernel: whole.Kernel, Commit: whole.Commit, Measures: []measure.Measure{
		{Case: measure.Off, Of: of(10001, 20000, 80000, 7000, 300)},
		whole.Measures[len(whole.Measures)-1],
	}}
	got := joined([]measured{example("6.18.1", 2000), apart})
	if diff := cmp.Diff(whole, got); diff != "" {
		t.Errorf("joined (-want +got):\n%s", diff)
	}
}
