// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/vm"
)

func TestTable(t *testing.T) {
	features := []vm.Feature{
		{Name: "`traffic`", Patterns: []string{"TestKernelCredits*"}},
		{Name: "accepts by fentry", Patterns: []string{"TestKernelReports*/fentry"}},
		{Name: "in parts", Patterns: []string{"TestKernelDropsOnEachHook"}},
		{Name: "by chance", Patterns: []string{"TestKernelChance"}},
		{Name: "32-bit", Patterns: []string{"TestKernel32*", "TestKernelCompat"}},
	}
	packages := []tested{{name: "internal/traffic"}, {name: "internal/accepts"}, {name: "internal/drops"}}
	outcomes := func(of ...outcome) *report { return &report{outcomes: of} }
	old := vm.Skip{Pattern: "TestKernelCredits*", Must: true, Reason: "needs 5.12"}
	arm := vm.Skip{Pattern: "TestKernelReports*/fentry", Must: true, Reason: "needs 6.4"}
	dropsArm := vm.Skip{Pattern: "TestKernelDropsOnEachHook/fentry", Must: true, Reason: "needs 6.4"}
	chance := vm.Skip{Pattern: "TestKernelChance", Reason: "depends"}
	results := []result{
		{
			kernel:   vm.Kernel{Arch: "amd64", Pattern: "linux-image-5.10.*-cloud-amd64", Skips: []vm.Skip{old, chance}},
			packages: packages,
			reports: map[string]*report{
				"internal/traffic": outcomes(outcome{test: "TestKernelCreditsAll", verdict: skipped}, outcome{test: "TestKernelCreditsMore", verdict: skipped}, outcome{test: "TestKernelChance", verdict: passed}),
				"internal/accepts": outcomes(outcome{test: "TestKernelReports", verdict: passed}, outcome{test: "TestKernelReports/fentry", verdict: passed}, outcome{test: "TestKernelCompat", verdict: passed}),
			},
		},
		{
			kernel:   vm.Kernel{Arch: "arm64", Pattern: "linux-image-7.*-cloud-arm64", Skips: []vm.Skip{old, arm, dropsArm, chance}},
			packages: packages,
			reports: map[string]*report{
				"internal/traffic": outcomes(outcome{test: "TestKernelCreditsAll", verdict: passed}, outcome{test: "TestKernelCreditsMore", verdict: skipped}, outcome{test: "TestKernelChance", verdict: skipped}),
				"internal/accepts": outcomes(outcome{test: "TestKernelReports", verdict: passed}, outcome{test: "TestKernelReports/fentry", verdict: skipped}),
				"internal/drops":   outcomes(outcome{test: "TestKernelDropsOnEachHook/fentry", verdict: skipped}, outcome{test: "TestKernelDropsOnEachHook", verdict: passed}),
			},
		},
	}
	const want = "| | 5.10 x86-64 | 7.x arm64 |\n" +
		"| --- | --- | --- |\n" +
		"| `traffic` | no (1) | partly (1) |\n" +
		"| accepts by fentry | yes | no (2) |\n" +
		"| in parts | - | no (2) |\n" +
		"| by chance | partly (3) | partly (3) |\n" +
		"| 32-bit | yes | - |\n" +
		"\n1. needs 5.12\n2. needs 6.4\n3. depends\n"
	if diff := cmp.Diff(want, table(features, results)); diff != "" {
		t.Errorf("table() differs (-want +got):\n%s", diff)
	}
}
