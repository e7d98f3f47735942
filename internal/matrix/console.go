// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// console interprets what a guest prints: the marks of init.sh, between them the output of go test
// -v, and anywhere messages of the kernel.
type console struct {
	done    bool                // the guest has reached its end
	current string              // the package whose tests are running
	reports map[string]*report  // of the packages whose tests have ended
	open    *report             // of the current package
	test    string              // the test whose output is being read
	said    map[string][]string // what each test of the current package has logged so far
	ended   string              // the package whose tests ended last
	warnings
}

// report is the result of the tests of a package.
type report struct {
	status   int // the exit status of the test binary
	outcomes []outcome
	warned   []warning // from the end of the previous package's tests to the end of its own
}

// hasEnded says whether a test, or a part of one, has an outcome.
func (r *report) hasEnded(test string) bool {
	return slices.ContainsFunc(r.outcomes, func(o outcome) bool { return o.test == test })
}

// outcome is the result of a test, or of a part of one, named TEST/PART.
type outcome struct {
	test    string
	verdict verdict
	said    []string // what it logged
}

type verdict string

const (
	passed  verdict = "PASS"
	failed  verdict = "FAIL"
	skipped verdict = "SKIP"
)

var (
	mark       = regexp.MustCompile(`^@@ (start|end|done) ?(\S*) ?(\d*)$`)
	testRuns   = regexp.MustCompile(`^=== (?:RUN|CONT|NAME)\s+(\S+)$`)
	testEnds   = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)
	testLogs   = regexp.MustCompile(`^\s+(\w+\.go:\d+: .*)$`)
	testLogsOn = regexp.MustCompile(`^\s{8,}(.*)$`)
	testDies   = regexp.MustCompile(`^((?:panic|fatal error|SIG\w+): .*)$`)
)

// read interprets one line of what the guest prints.
func (c *console) read(line string) {
	line, whole := c.warnings.read(line, c.test)
	if !whole {
		return
	}
	if words := mark.FindStringSubmatch(line); words != nil {
		c.readMark(words[1], words[2], words[3])
		return
	}
	if c.open == nil {
		return
	}
	if words := testRuns.FindStringSubmatch(line); words != nil {
		c.test = words[1]
	} else if words := testEnds.FindStringSubmatch(line); words != nil {
		c.open.outcomes = append(c.open.outcomes, outcome{test: words[2], verdict: verdict(words[1]), said: c.said[words[2]]})
	} else if words := testDies.FindStringSubmatch(line); words != nil {
		c.said[c.test] = append(c.said[c.test], words[1])
	} else if words := testLogs.FindStringSubmatch(line); words != nil {
		c.said[c.test] = append(c.said[c.test], words[1])
	} else if words := testLogsOn.FindStringSubmatch(line); words != nil && len(c.said[c.test]) > 0 {
		c.said[c.test] = append(c.said[c.test], words[1])
	}
}

func (c *console) readMark(kind, name, status string) {
	switch kind {
	case "start":
		c.current, c.test, c.open, c.said = name, "", &report{}, map[string][]string{}
	case "end":
		if c.open != nil && name == c.current {
			c.open.status, _ = strconv.Atoi(status) // the expression of the mark accepts only numbers
			if whole, _, _ := strings.Cut(c.test, "/"); whole != "" && !c.open.hasEnded(whole) {
				c.open.outcomes = append(c.open.outcomes, outcome{test: whole, verdict: failed, said: append([]string{"has not ended"}, c.said[c.test]...)})
			}
			c.open.warned = c.take()
			c.reports[name], c.ended = c.open, name
		}
		c.current, c.test, c.open, c.said = "", "", nil, nil
	case "done":
		c.done = true
		if last := c.reports[c.ended]; last != nil {
			last.warned = append(last.warned, c.take()...)
		}
	}
}
