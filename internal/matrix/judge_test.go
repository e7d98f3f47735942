// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/vm"
)

func TestJudge(t *testing.T) {
	k := vm.Kernel{Skips: []vm.Skip{
		{Pattern: "TestKernelA", Must: true, Reason: "no such hook"},
		{Pattern: "TestKernel*/part", Reason: "by chance"},
	}}

	for name, test := range map[string]struct {
		report report
		want   tally
		says   []string
	}{
		"no tests": {},
		"a test that passes counts once, with its parts": {
			report: report{outcomes: []outcome{{test: "TestKernelC", verdict: passed}, {test: "TestKernelC/x", verdict: passed}}},
			want:   tally{passed: 1},
		},
		"skips that are expected": {
			report: report{outcomes: []outcome{
				{test: "TestKernelA", verdict: skipped},
				{test: "TestKernelB", verdict: passed}, {test: "TestKernelB/part", verdict: skipped},
			}},
			want: tally{passed: 1, skipped: 1},
		},
		"skips that nobody expects": {
			report: report{outcomes: []outcome{
				{test: "TestKernelC", verdict: passed},
				{test: "TestKernelC/other", verdict: skipped, said: []string{"c_test.go:1: no such device"}},
			}},
			want: tally{failed: 1},
			says: []string{"TestKernelC/other: is skipped, and kernels.txt does not expect it: c_test.go:1: no such device"},
		},
		"a test that may be skipped and passes": {
			report: report{outcomes: []outcome{{test: "TestKernelB", verdict: passed}, {test: "TestKernelB/part", verdict: passed}}},
			want:   tally{passed: 1},
		},
		"a test that must be skipped and passes": {
			report: report{outcomes: []outcome{{test: "TestKernelA", verdict: passed}}},
			want:   tally{failed: 1},
			says:   []string{"TestKernelA: passes, and kernels.txt says that it must be skipped: no such hook"},
		},
		"failures, each with what it says": {
			report: report{status: 1, outcomes: []outcome{
				{test: "TestKernelC", verdict: failed, said: []string{"c_test.go:1: want 1", "got 2"}},
				{test: "TestKernelD", verdict: failed},
				{test: "TestKernelD/part", verdict: failed, said: []string{"d_test.go:1: want 3"}},
				{test: "TestKernelE", verdict: failed},
			}},
			want: tally{failed: 3},
			says: []string{"TestKernelC: c_test.go:1: want 1 got 2", "TestKernelD/part: d_test.go:1: want 3", "TestKernelE: fails without a word"},
		},
		"a guest that warns of itself": {
			report: report{
				outcomes: []outcome{{test: "TestKernelC", verdict: passed}, {test: "TestKernelC/x", verdict: passed}, {test: "TestKernelD", verdict: passed}},
				warned: []warning{
					{said: []string{"insmod: can't insert x"}},
					{test: "TestKernelC/x", said: []string{"it is unsafe", "WARNING: CPU: 1"}},
					{test: "TestKernelC", said: []string{"BUG: scheduling while atomic"}},
				},
			},
			want: tally{passed: 1, failed: 2},
			says: []string{
				"between the tests: the guest warns: insmod: can't insert x",
				"TestKernelC/x: the guest warns: it is unsafe: WARNING: CPU: 1",
				"TestKernelC: the guest warns: BUG: scheduling while atomic",
			},
		},
		"a crash between the tests": {
			report: report{status: 2, outcomes: []outcome{{test: "TestKernelC", verdict: passed}}},
			want:   tally{passed: 1, failed: 1},
			says:   []string{"exit status 2, and no test says why"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, says := judge(k, test.report)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(tally{})); diff != "" {
				t.Errorf("judge() counts differently (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.says, says); diff != "" {
				t.Errorf("judge() complains differently (-want +got):\n%s", diff)
			}
		})
	}
}
