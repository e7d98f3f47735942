// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/seed-7756021b/nettap/internal/section"
	"github.com/seed-7756021b/nettap/internal/vm"
)

// tableOfKernels is where the table is in a document.
var tableOfKernels = section.Section{Command: "make test-matrix", Again: "make test-matrix MATRIXFLAGS=-write"}

// table returns features by kernels as Markdown, with notes on why something is missing. It does
// not mention point releases of kernels, so that it does not change with them.
func table(features []vm.Feature, results []result) string {
	results = slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.kernel.Only != "" })
	var b strings.Builder
	b.WriteString("| |")
	for _, r := range results {
		fmt.Fprintf(&b, " %s |", r.kernel.Title())
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(results)) + "\n")
	var notes []string
	for _, f := range features {
		fmt.Fprintf(&b, "| %s |", f.Name)
		for _, r := range results {
			answer, reason := r.has(f)
			if reason != "" {
				note := slices.Index(notes, reason)
				if note < 0 {
					note = len(notes)
					notes = append(notes, reason)
				}
				answer += fmt.Sprintf(" (%d)", note+1)
			}
			fmt.Fprintf(&b, " %s |", answer)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, note := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, note)
	}
	return b.String()
}

// has tells whether the tests of a feature pass on the kernel: "yes", "no", "partly", or "-" if
// there are none. If not all pass, reason is that of the plan. A test that may skip itself counts
// as one that passes at times, whatever it did in this run.
func (r result) has(f vm.Feature) (answer, reason string) {
	var passes, skips int
	for _, p := range r.packages {
		report := r.reports[p.name]
		if report == nil {
			continue
		}
		for _, outcome := range report.outcomes {
			if !covers(f, outcome.test) {
				continue
			}
			if part, all := report.skippedParts(outcome.test); all {
				outcome = part
			}
			skip, expected := r.kernel.SkipOf(outcome.test)
			chance := expected && !skip.Must
			if chance || outcome.verdict == passed {
				passes++
			}
			if chance || outcome.verdict != passed {
				skips++
				reason = skip.Reason
			}
		}
	}
	switch {
	case passes == 0 && skips == 0:
		return "-", ""
	case passes == 0:
		return "no", reason
	case skips > 0:
		return "partly", reason
	}
	return "yes", ""
}

// skippedParts reports whether a test has parts and all of them were skipped. Such a test has
// passed without testing anything. part is one of them.
func (r report) skippedParts(test string) (part outcome, all bool) {
	for _, outcome := range r.outcomes {
		if !strings.HasPrefix(outcome.test, test+"/") {
			continue
		}
		if outcome.verdict != skipped {
			return part, false
		}
		part = outcome
	}
	return part, part.test != ""
}

func covers(f vm.Feature, test string) bool {
	return slices.ContainsFunc(f.Patterns, func(pattern string) bool {
		matches, _ := path.Match(pattern, test) // parsePlan has checked the pattern
		return matches
	})
}
