// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
)

// of returns the figures of the operations, in their order.
func of(figures ...float64) map[string]float64 {
	m := map[string]float64{}
	for i, operation := range measure.Operations {
		m[operation] = figures[i]
	}
	return m
}

// example returns the measures of a kernel, with what traffic takes for a datagram.
func example(kernel string, traffic float64) measured {
	return measured{Title: "6.18 x86-64", Kernel: kernel, Commit: "abc", Measures: []measure.Measure{
		{Case: measure.Off, Of: of(10000, 20000, 80000, 7000, 300)},
		{Case: "traffic", Rung: "tp_btf/a", Of: of(10000+traffic, 25000, 100000, 9000, 300)},
		{Case: "traffic", Rung: "tp_btf/a", Empty: true, Of: of(10700, 21200, 84000, 7700, 300)},
		{Case: "traffic", Rung: "kprobe/b", Of: of(14000, 25000, 100000, 9000, 300)},
	}}
}

func TestCompare(t *testing.T) {
	recorded := example("6.18.1", 2000)
	without := example("6.18.1", 2000)
	without.Measures = without.Measures[:1]
	another := example("6.18.1", 2000)
	another.Measures[1].Rung = "tp_btf/new"
	rising := example("6.18.1", 2000)
	rising.Measures[1].Of[measure.Getppid] = 301

	for name, test := range map[string]struct {
		now  measured
		want string
	}{
		"the same":                     {now: recorded},
		"less":                         {now: example("6.18.1", 1000)},
		"within what is allowed":       {now: example("6.18.1", 2000*1.05+30)},
		"another hook, as cheap":       {now: another},
		"more, where nothing was":      {now: rising, want: "6.18.1: traffic: getppid takes 1 instructions more than with nothing attached, and took 0 at commit abc"},
		"more than what is allowed":    {now: example("6.18.1", 2000*1.05+31), want: "6.18.1: traffic: udp takes 2131 instructions more than with nothing attached, and took 2000 at commit abc"},
		"a case that is not there now": {now: without, want: "6.18.1: traffic was not measured"},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			if err := test.now.compare(recorded); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("compare() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithLaterFigures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cost.json")
	before, err := readRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	other := measured{Title: "6.1 x86-64", Kernel: "6.1.9"}
	before = before.with(record{Kernels: []measured{other, example("6.18.1", 2000)}})
	later := example("6.18.2", 1000)
	nanos := measured{Title: "this machine"}
	if err := before.with(record{Kernels: []measured{later}, Nanos: &nanos}).write(file); err != nil {
		t.Fatal(err)
	}

	got, err := readRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	want := record{Kernels: []measured{other, later}, Nanos: &nanos}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the record differs (-want +got):\n%s", diff)
	}
}

func TestCompletedByWhatWasNotMeasured(t *testing.T) {
	calls := measure.Measure{Case: "calls", Rung: "fentry", Of: of(13000, 23000, 90000, 8000, 300)}
	kept := example("6.18.1", 2000)
	kept.Measures = append(kept.Measures, calls)
	found := measured{Title: "6.18 x86-64", Kernel: "6.18.1", Commit: "def", Measures: []measure.Measure{
		{Case: measure.Off, Of: of(10001, 20000, 80000, 7000, 300)},
		{Case: measure.All, Rung: "fentry", Of: of(14000, 25000, 100000, 9000, 300)},
		{Case: "traffic", Rung: "tp_btf/a", Of: of(11000, 22000, 90000, 8000, 300)},
	}}
	otherVersion := found
	otherVersion.Title, otherVersion.Kernel = "6.1 x86-64", "6.1.10"

	got := record{Kernels: []measured{found, otherVersion}}.completedBy(record{Kernels: []measured{kept, {Title: "6.1 x86-64", Kernel: "6.1.9", Measures: kept.Measures}}})
	complete := found
	complete.Measures = []measure.Measure{found.Measures[0], found.Measures[2], calls, found.Measures[1]}
	want := record{Kernels: []measured{complete, otherVersion}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("completedBy() differs (-want +got):\n%s", diff)
	}
}

func TestMarkdown(t *testing.T) {
	nanos := measured{Title: thisMachine, Kernel: "6.18.44-vm", Measures: []measure.Measure{
		{Case: measure.Off, Of: of(3000, 6000, 40000, 2000, 100)},
		{Case: measure.All, Rung: "tp_btf/c", Of: of(6000, 10000, 80000, 4000, 90)},
		{Case: measure.All, Rung: "tp_btf/c", Empty: true, Of: of(4000, 7000, 41000, 3000, 100)},
	}}
	const want = `| instructions, Linux 6.18 x86-64 | datagram | TCP message | connection | dropped datagram | ` + "`getppid`" + ` |
| --- | --- | --- | --- | --- | --- |
| nothing attached | 10,000 | 20,000 | 80,000 | 7,000 | 300 |
| ` + "`traffic` by `tp_btf/a`" + ` | 2,000 (700) | 5,000 (1,200) | 20,000 (4,000) | 2,000 (700) | 0 (0) |

| nanoseconds on a machine with Linux 6.18 | datagram | TCP message | connection | dropped datagram | ` + "`getppid`" + ` | speed left, of datagrams |
| --- | --- | --- | --- | --- | --- | --- |
| nothing attached | 3,000 | 6,000 | 40,000 | 2,000 | 100 | 1.00 |
| the defaults, ` + "`calls` by `tp_btf/c`" + ` | 3,000 (1,000) | 4,000 (1,000) | 40,000 (1,000) | 2,000 (1,000) | -10 (0) | 0.50 (0.75) |

| instructions for a datagram | 6.18 x86-64 | 7.x x86-64 |
| --- | --- | --- |
| ` + "`traffic` by `tp_btf/a`" + ` | **2,000** (700) | - |
| ` + "`traffic` by `kprobe/b`" + ` | 4,000 | - |
`
	got := record{Kernels: []measured{{Title: "7.x x86-64", Kernel: "7.3.4"}, example("6.18.1", 2000)}, Nanos: &nanos}.markdown()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("markdown() differs (-want +got):\n%s", diff)
	}
}

func TestChanges(t *testing.T) {
	got := example("6.18.1", 1500).changes(example("6.18.1", 2000))
	const want = "since the last run: traffic tp_btf/a udp: 1,500, was 2,000 (-25%)\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes() differs (-want +got):\n%s", diff)
	}
}

func TestLeastOf(t *testing.T) {
	first := []measure.Measure{{Case: measure.Off, Of: of(5, 9, 1, 1, 1)}}
	second := []measure.Measure{{Case: measure.Off, Of: of(7, 8, 1, 1, 1)}}
	want := []measure.Measure{{Case: measure.Off, Of: of(5, 8, 1, 1, 1)}}
	if diff := cmp.Diff(want, leastOf(leastOf(nil, first), second)); diff != "" {
		t.Errorf("leastOf() differs (-want +got):\n%s", diff)
	}
}

// README.md shows what is recorded.
func TestReadmeShowsTheRecord(t *testing.T) {
	root := filepath.Join("..", "..")
	kept, err := readRecord(filepath.Join(root, recordFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := tableOfCosts.Check(filepath.Join(root, tableFile), kept.markdown(), false); err != nil {
		t.Error(err)
	}
	for _, m := range kept.Kernels {
		if strings.TrimSpace(m.Commit) == "" {
			t.Errorf("nobody knows at which commit %s was measured", m.Kernel)
		}
	}
}
