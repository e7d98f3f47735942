// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/vm"
)

func TestRunAll(t *testing.T) {
	packages := []tested{{name: "a"}, {name: "b"}, {name: "c"}}

	for name, test := range map[string]struct {
		printed  []string // by each guest that is booted
		want     []string // packages with a report
		wantLeft [][]string
	}{
		"a guest that lives": {
			printed:  []string{"@@ start a\n@@ end a 0\n@@ start b\n@@ end b 1\n@@ start c\n@@ end c 0\n@@ done\n"},
			want:     []string{"a", "b", "c"},
			wantLeft: [][]string{{"a", "b", "c"}},
		},
		"a guest that dies once goes on where it died": {
			printed: []string{
				"@@ start a\n@@ end a 0\n@@ start b\n",
				"@@ start b\n@@ end b 0\n@@ start c\n@@ end c 0\n@@ done\n",
			},
			want:     []string{"a", "b", "c"},
			wantLeft: [][]string{{"a", "b", "c"}, {"b", "c"}},
		},
		"the tests that kill twice are left out": {
			printed: []string{
				"@@ start a\n@@ end a 0\n@@ start b\n",
				"@@ start b\n",
				"@@ start c\n@@ end c 0\n@@ done\n",
			},
			want:     []string{"a", "c"},
			wantLeft: [][]string{{"a", "b", "c"}, {"b", "c"}, {"c"}},
		},
		"a kernel that does not boot": {
			printed:  []string{"Kernel panic\n", "Kernel panic\n"},
			wantLeft: [][]string{{"a", "b", "c"}, {"a", "b", "c"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var left [][]string
			reports := runAll(t.Context(), packages, func(_ context.Context, packages []tested) *console {
				left = append(left, namesOf(packages))
				return hear(test.printed[len(left)-1])
			})
			var got []string
			for _, p := range packages {
				if reports[p.name] != nil {
					got = append(got, p.name)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("runAll() reports differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wantLeft, left); diff != "" {
				t.Errorf("runAll() booted guests for other packages (-want +got):\n%s", diff)
			}
		})
	}
}

func namesOf(packages []tested) []string {
	var names []string
	for _, p := range packages {
		names = append(names, p.name)
	}
	return names
}

func TestOrder(t *testing.T) {
	m := &matrix{Plan: vm.Plan{Kernels: []vm.Kernel{{Pattern: "small", Minutes: 6}, {Pattern: "unknown"}, {Pattern: "large", Minutes: 20}, {Pattern: "as large", Minutes: 20}}}}
	if diff := cmp.Diff([]int{2, 3, 0, 1}, m.order()); diff != "" {
		t.Errorf("order() differs (-want +got):\n%s", diff)
	}
}
