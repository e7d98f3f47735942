// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// summarize prints a table of the results of each package's tests on each kernel, and then
// everything that is not as expected. It reports whether all is as expected.
func summarize(to io.Writer, results []result) bool {
	columns := packagesOf(results)
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\nkernel")
	for _, name := range columns {
		fmt.Fprint(table, "\t", path.Base(name))
	}
	fmt.Fprintln(table, "\ttime")

	var all tally
	var complaints []string
	for _, r := range results {
		cells, sum, said := r.judge(columns)
		fmt.Fprintf(table, "%s\t%s\t%v\n", r.name, strings.Join(cells, "\t"), r.took.Round(time.Second))
		all.add(sum)
		complaints = append(complaints, said...)
	}
	table.Flush()
	fmt.Fprintf(to, "\n%s", strings.Join(append(complaints, ""), "\n"))
	fmt.Fprintf(to, "%d passed, %d failed, %d skipped\n", all.passed, all.failed, all.skipped)
	return len(complaints) == 0
}

// judge returns the result of the tests on one kernel: a cell for each package, their sum, and the
// complaints.
func (r result) judge(packages []string) (cells []string, sum tally, complaints []string) {
	if r.err != nil {
		return slices.Repeat([]string{"-"}, len(packages)), sum, []string{fmt.Sprintf("no guest: %s: %v", r.name, r.err)}
	}
	for _, name := range packages {
		report := r.reports[name]
		if !slices.ContainsFunc(r.packages, func(p tested) bool { return p.name == name }) {
			cells = append(cells, "-") // it was not tested there
			continue
		}
		if report == nil {
			cells = append(cells, "guest died")
			complaints = append(complaints, fmt.Sprintf("guest died: %s: %s: %d times, so nobody knows whether its tests pass", r.name, name, tries))
			continue
		}
		tally, said := judge(r.kernel, *report)
		cells = append(cells, tally.String())
		sum.add(tally)
		for _, complaint := range said {
			complaints = append(complaints, fmt.Sprintf("FAIL: %s: %s: %s", r.name, name, complaint))
		}
	}
	return cells, sum, complaints
}

// packagesOf returns the packages whose tests ran on any kernel.
func packagesOf(results []result) []string {
	var names []string
	for _, r := range results {
		for _, p := range r.packages {
			names = append(names, p.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
