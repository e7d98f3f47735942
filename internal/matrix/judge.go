package main

import (
	"fmt"
	"strings"
)

// tally counts the tests of a package by what became of them.
type tally struct{ passed, failed, skipped int }

func (t *tally) add(other tally) {
	t.passed += other.passed
	t.failed += other.failed
	t.skipped += other.skipped
}

// String returns the tally as a cell of the table shows it.
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

// judge compares what became of a package's tests with what the kernel should do
// with them. A complaint names the test and says what it has logged.
func (k kernel) judge(r report) (t tally, complaints []string) {
	verdicts := map[string]verdict{} // of whole tests
	for _, outcome := range r.outcomes {
		verdict, complaint := k.judgeOne(outcome)
		if complaint != "" {
			complaints = append(complaints, outcome.test+": "+complaint)
		}
		whole, _, part := strings.Cut(outcome.test, "/")
		if !part && verdicts[whole] == "" || verdict == failed {
			verdicts[whole] = verdict
		}
	}
	for _, verdict := range verdicts {
		switch verdict {
		case passed:
			t.passed++
		case skipped:
			t.skipped++
		default:
			t.failed++
		}
	}
	if r.status != 0 && t.failed == 0 {
		t.failed++
		complaints = append(complaints, fmt.Sprintf("exit status %d, and no test says why", r.status))
	}
	return t, complaints
}

func (k kernel) judgeOne(o outcome) (v verdict, complaint string) {
	said := strings.Join(o.said, " ")
	expected := k.skipOf(o.test)
	switch {
	case o.verdict == failed && said == "" && strings.Contains(o.test, "/"):
		return failed, "" // a part of it says why
	case o.verdict == failed:
		return failed, said
	case o.verdict == skipped && expected == "":
		return failed, "is skipped, and kernels.txt does not expect it: " + said
	case o.verdict == passed && expected != "":
		return failed, "passes, and kernels.txt expects it to be skipped: " + expected
	}
	return o.verdict, ""
}
