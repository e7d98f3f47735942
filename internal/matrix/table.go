package main

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// feature is something that the table of kernels says of each: whether the tests
// that match one of the patterns pass there.
type feature struct {
	name     string
	patterns []string // as in [path.Match]
}

// The table is between these lines of a document.
const (
	tableBegins = "<!-- make test-matrix: begin -->"
	tableEnds   = "<!-- make test-matrix: end -->"
)

// table returns features by kernels as Markdown, with notes of why something is
// not there. It says nothing of kernels' point releases, so that it does not
// change when they do.
func (p plan) table(results []result) string {
	results = slices.DeleteFunc(slices.Clone(results), func(r result) bool { return r.kernel.only != "" })
	var b strings.Builder
	b.WriteString("| |")
	for _, r := range results {
		fmt.Fprintf(&b, " %s |", r.kernel.title())
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(results)) + "\n")
	var notes []string
	for _, f := range p.features {
		fmt.Fprintf(&b, "| %s |", f.name)
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

// has says whether the tests of a feature pass on the kernel, "yes", "no", "partly"
// or "-" where there are none, and if not all do the plan's reason. A test that
// may skip itself counts as one that passes at times, whatever it did this time.
func (r result) has(f feature) (answer, reason string) {
	var passes, skips int
	for _, p := range r.packages {
		report := r.reports[p.name]
		if report == nil {
			continue
		}
		for _, outcome := range report.outcomes {
			if !f.covers(outcome.test) {
				continue
			}
			if part, all := report.skippedParts(outcome.test); all {
				outcome = part
			}
			skip, expected := r.kernel.skipOf(outcome.test)
			chance := expected && !skip.must
			if chance || outcome.verdict == passed {
				passes++
			}
			if chance || outcome.verdict != passed {
				skips++
				reason = skip.reason
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

// skippedParts says whether a test has parts and all of them were skipped, which
// leaves a test that has passed and tried nothing. It returns one of them.
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

func (f feature) covers(test string) bool {
	return slices.ContainsFunc(f.patterns, func(pattern string) bool {
		matches, _ := path.Match(pattern, test) // parsePlan has tried it
		return matches
	})
}

var releaseOfPattern = regexp.MustCompile(`linux-image-([0-9]+)(\.[0-9]+)?`)

// title names the kernel by what the plan asks for: "6.1 x86-64", "7.x x86-64",
// "6.12 RT x86-64".
func (k kernel) title() string {
	architecture := map[string]string{"amd64": "x86-64"}[k.arch]
	if architecture == "" {
		architecture = k.arch
	}
	words := releaseOfPattern.FindStringSubmatch(k.pattern)
	if words == nil {
		return k.String()
	}
	if words[2] == "" {
		words[2] = ".x"
	}
	if strings.Contains(k.pattern, "-rt-") {
		words[2] += " RT"
	}
	return words[1] + words[2] + " " + architecture
}

// putTable replaces the table in a document and says whether it was another one.
func putTable(document, table string) (put string, changed bool, err error) {
	before, rest, found := strings.Cut(document, tableBegins+"\n")
	old, after, ended := strings.Cut(rest, tableEnds)
	if !found || !ended {
		return "", false, fmt.Errorf("no table: want the lines %q and %q", tableBegins, tableEnds)
	}
	return before + tableBegins + "\n" + table + tableEnds + after, old != table, nil
}

// checkTable holds the table in a file against the results, or writes it there.
func (p plan) checkTable(file string, results []result, write bool) error {
	document, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	put, changed, err := putTable(string(document), p.table(results))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if !changed {
		return nil
	}
	if !write {
		return fmt.Errorf("%s: its table of kernels is not what came out: run make test-matrix MATRIXFLAGS=-write", file)
	}
	return os.WriteFile(file, []byte(put), 0o644)
}
