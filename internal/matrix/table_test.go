package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	p := plan{features: []feature{
		{name: "`traffic`", patterns: []string{"TestKernelBooks*"}},
		{name: "accepts by fentry", patterns: []string{"TestKernelReports*/fentry"}},
		{name: "in parts", patterns: []string{"TestKernelDropsOnEachHook"}},
		{name: "by chance", patterns: []string{"TestKernelChance"}},
		{name: "32-bit", patterns: []string{"TestKernel32*", "TestKernelCompat"}},
	}}
	packages := []tested{{name: "internal/traffic"}, {name: "internal/accepts"}, {name: "internal/drops"}}
	outcomes := func(of ...outcome) *report { return &report{outcomes: of} }
	old := skip{pattern: "TestKernelBooks*", must: true, reason: "needs 5.12"}
	arm := skip{pattern: "TestKernelReports*/fentry", must: true, reason: "needs 6.4"}
	dropsArm := skip{pattern: "TestKernelDropsOnEachHook/fentry", must: true, reason: "needs 6.4"}
	chance := skip{pattern: "TestKernelChance", reason: "depends"}
	results := []result{
		{
			kernel:   kernel{arch: "amd64", pattern: "linux-image-5.10.*-cloud-amd64", skips: []skip{old, chance}},
			packages: packages,
			reports: map[string]*report{
				"internal/traffic": outcomes(outcome{test: "TestKernelBooksAll", verdict: skipped}, outcome{test: "TestKernelBooksMore", verdict: skipped}, outcome{test: "TestKernelChance", verdict: passed}),
				"internal/accepts": outcomes(outcome{test: "TestKernelReports", verdict: passed}, outcome{test: "TestKernelReports/fentry", verdict: passed}, outcome{test: "TestKernelCompat", verdict: passed}),
			},
		},
		{
			kernel:   kernel{arch: "arm64", pattern: "linux-image-7.*-cloud-arm64", skips: []skip{old, arm, dropsArm, chance}},
			packages: packages,
			reports: map[string]*report{
				"internal/traffic": outcomes(outcome{test: "TestKernelBooksAll", verdict: passed}, outcome{test: "TestKernelBooksMore", verdict: skipped}, outcome{test: "TestKernelChance", verdict: skipped}),
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
	if diff := cmp.Diff(want, p.table(results)); diff != "" {
		t.Errorf("table() differs (-want +got):\n%s", diff)
	}
}

func TestTitle(t *testing.T) {
	for pattern, want := range map[string]string{
		"linux-image-6.1.*-cloud-amd64": "6.1 x86-64",
		"linux-image-6.12.*-rt-amd64":   "6.12 RT x86-64",
		"linux-image-7.*-cloud-amd64":   "7.x x86-64",
	} {
		if got := (kernel{arch: "amd64", pattern: pattern}).title(); got != want {
			t.Errorf("title() of %s = %q, want %q", pattern, got, want)
		}
	}
}

func TestCheckTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	const before, after = "# kernels\n" + tableBegins + "\n", tableEnds + "\nthe end\n"
	read := func() string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if err := os.WriteFile(file, []byte(before+"| old |\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
	table := plan{}.table(nil)
	if err := (plan{}).checkTable(file, nil, false); err == nil {
		t.Error("an old table is not noticed")
	}
	if err := (plan{}).checkTable(file, nil, true); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before+table+after, read()); diff != "" {
		t.Errorf("the file differs (-want +got):\n%s", diff)
	}
	if err := (plan{}).checkTable(file, nil, false); err != nil {
		t.Errorf("the table is right, but: %v", err)
	}
	if err := os.WriteFile(file, []byte("# nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (plan{}).checkTable(file, nil, true); err == nil {
		t.Error("a file without a place for the table is not noticed")
	}
}
