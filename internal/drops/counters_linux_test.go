// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
)

// TestEachRuleIsProvoked requires that a test provokes each row of the table of counters, or that the
// row says why none does. Whether the drops match the row is seen when the test runs.
func TestEachRuleIsProvoked(t *testing.T) {
	rules, err := readRules(countersCSV)
	if err != nil {
		t.Fatal(err)
	}
	provocations := map[string]bool{}
	for _, provocation := range slices.Concat(dropstest.Counted(), dropstest.CountedQueues()) {
		if provocations[provocation.Name] {
			t.Errorf("%q is the name of two provocations", provocation.Name)
		}
		provocations[provocation.Name] = true
	}
	for _, r := range rules {
		if reason, excused := strings.CutPrefix(r.provoked, "- "); !provocations[r.provoked] && (!excused || reason == "") {
			t.Errorf("nothing provokes %v", r)
		}
	}
}
