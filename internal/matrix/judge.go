// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-7756021b/nettap/internal/vm"
)

// tally counts the tests of a package by their results.
type tally struct{ passed, failed, skipped int }

func (t *tally) add(other tally) {
	t.passed += other.passed
	t.failed += other.failed
	t.skipped += other.skipped
}

// String returns the tally as a cell of the table.
func (t tally) String() string {
	var words []string
	for _, count := range []struct {
		n    int
		what string
	}{{t.passed, "ok"}, {t.failed, "FAIL"}, {t.skipped, "skip"}} {
		if count.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", count.n, count.what))
		}
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ", ")
}

// judge compares the results of a package's tests with what is expected on the kernel. A complaint
// names the test, or the part of one, and what it logged.
func judge(k vm.Kernel, r report) (t tally, complaints []string) {
	good := map[string]verdict{} // by whole tests
	bad := map[string]bool{}
	for _, outcome := range r.outcomes {
		whole, _, part := strings.Cut(outcome.test, "/")
		if !part {
			good[whole] = outcome.verdict
		}
		if complaint := complain(k, outcome); complaint != "" {
			bad[whole] = true
			complaints = append(complaints, outcome.test+": "+complaint)
		}
	}
	for _, warning := range r.warned {
		whole, _, _ := strings.Cut(warning.test, "/")
		if good[whole] == "" {
			good[whole] = failed // it has not ended, or never began
		}
		bad[whole] = true
		complaints = append(complaints, warning.String())
	}
	for _, test := range slices.Sorted(maps.Keys(good)) {
		switch {
		case good[test] == failed && !bad[test]:
			complaints = append(complaints, test+": fails without a word")
			fallthrough
		case bad[test]:
			t.failed++
		case good[test] == skipped:
			t.skipped++
		default:
			t.passed++
		}
	}
	if r.status != 0 && t.failed == 0 {
		t.failed++
		complaints = append(complaints, fmt.Sprintf("exit status %d, and no test says why", r.status))
	}
	return t, complaints
}

// String returns the warning as a complaint.
func (w warning) String() string {
	return cmp.Or(w.test, "between the tests") + ": the guest warns: " + strings.Join(w.said, ": ")
}

// complain returns what is wrong with an outcome. A test that fails without having logged anything
// leaves the complaint to its parts.
func complain(k vm.Kernel, o outcome) string {
	said := strings.Join(o.said, " ")
	skip, expected := k.SkipOf(o.test)
	switch {
	case o.verdict == failed:
		return said
	case o.verdict == skipped && !expected:
		return "is skipped, and kernels.txt does not expect it: " + said
	case o.verdict == passed && skip.Must:
		return "passes, and kernels.txt says that it must be skipped: " + skip.Reason
	}
	return ""
}
