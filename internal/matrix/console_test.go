// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var wholly = cmp.AllowUnexported(console{}, report{}, outcome{}, warnings{}, warning{})

// hear returns a console that has read what a guest prints.
func hear(printed string) *console {
	c := &console{reports: map[string]*report{}}
	for line := range strings.Lines(printed) {
		c.read(strings.TrimRight(line, "\r\n"))
	}
	return c
}

func TestConsole(t *testing.T) {
	for name, test := range map[string]struct {
		printed string
		want    *console
	}{
		"nothing": {want: &console{reports: map[string]*report{}}},
		"tests of two packages": {
			printed: `@@ start internal/drops
=== RUN   TestKernelA
    a_test.go:7: what A logs
        goes on here
=== RUN   TestKernelA/part
    a_test.go:9: what its part logs
=== NAME  TestKernelA
    a_test.go:8: more of A
--- FAIL: TestKernelA (1.50s)
    --- SKIP: TestKernelA/part (0.10s)
FAIL

@@ end internal/drops 1
@@ start receiver
=== RUN   TestKernelB
--- PASS: TestKernelB (0.00s)
PASS

@@ end receiver 0
@@ done
[   12.3] reboot: Power down
`,
			want: &console{done: true, ended: "receiver", reports: map[string]*report{
				"internal/drops": {status: 1, outcomes: []outcome{
					{test: "TestKernelA", verdict: failed, said: []string{"a_test.go:7: what A logs", "goes on here", "a_test.go:8: more of A"}},
					{test: "TestKernelA/part", verdict: skipped, said: []string{"a_test.go:9: what its part logs"}},
				}},
				"receiver": {outcomes: []outcome{{test: "TestKernelB", verdict: passed}}},
			}},
		},
		"a test that never ends": {
			printed: `@@ start receiver
=== RUN   TestKernelA
--- PASS: TestKernelA (0.00s)
=== RUN   TestKernelB
=== RUN   TestKernelB/part
panic: test timed out after 10m0s
	running tests:
		TestKernelB (10m0s)
		TestKernelB/part (9m0s)

goroutine 1 [running]:

@@ end receiver 2
@@ done
`,
			want: &console{done: true, ended: "receiver", reports: map[string]*report{
				"receiver": {status: 2, outcomes: []outcome{
					{test: "TestKernelA", verdict: passed},
					{test: "TestKernelB", verdict: failed, said: []string{
						"has not ended", "panic: test timed out after 10m0s",
					}},
				}},
			}},
		},
		"a guest that dies in the second package": {
			printed: `@@ start internal/drops
@@ end internal/drops 0
@@ start receiver
=== RUN   TestKernelB
[   12.3] Kernel panic - not syncing: Fatal exception
`,
			want: &console{
				current: "receiver", open: &report{}, test: "TestKernelB", said: map[string][]string{}, ended: "internal/drops",
				reports: map[string]*report{"internal/drops": {}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := hear(test.printed)
			if diff := cmp.Diff(test.want, got, wholly); diff != "" {
				t.Errorf("console differs (-want +got):\n%s", diff)
			}
		})
	}
}
