// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSummarize(t *testing.T) {
	packages := []tested{{name: "internal/drops"}, {name: "receiver"}}
	good := &report{outcomes: []outcome{{test: "TestKernelA", verdict: passed}}}
	bad := &report{status: 1, outcomes: []outcome{{test: "TestKernelB", verdict: failed, said: []string{"b_test.go:1: want 1"}}}}

	for name, test := range map[string]struct {
		results []result
		want    string
		fine    bool
	}{
		"all is well": {
			results: []result{{name: "6.1.0-amd64", packages: packages, took: 90 * time.Second,
				reports: map[string]*report{"internal/drops": good, "receiver": good}}},
			want: `
kernel       drops  receiver  time
6.1.0-amd64  1 ok   1 ok      1m30s

2 passed, 0 failed, 0 skipped
`,
			fine: true,
		},
		"all is not well": {
			results: []result{
				{name: "6.1.0-amd64", packages: packages, reports: map[string]*report{"internal/drops": good, "receiver": bad}},
				{name: "6.1.0-arm64", packages: packages, reports: map[string]*report{"internal/drops": good}},
				{name: "sid amd64 linux-image-*", packages: packages, err: errors.New("no network")},
			},
			want: `
kernel                   drops  receiver    time
6.1.0-amd64              1 ok   1 FAIL      0s
6.1.0-arm64              1 ok   guest died  0s
sid amd64 linux-image-*  -      -           0s

FAIL: 6.1.0-amd64: receiver: TestKernelB: b_test.go:1: want 1
guest died: 6.1.0-arm64: receiver: 2 times, so nobody knows whether its tests pass
no guest: sid amd64 linux-image-*: no network
2 passed, 1 failed, 0 skipped
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var printed strings.Builder
			fine := summarize(&printed, test.results)
			if diff := cmp.Diff(test.want, printed.String()); diff != "" {
				t.Errorf("summarize() prints differently (-want +got):\n%s", diff)
			}
			if fine != test.fine {
				t.Errorf("summarize() = %v, want %v", fine, test.fine)
			}
		})
	}
}
