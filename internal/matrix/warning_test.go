// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWarnings(t *testing.T) {
	const begin, end = "@@ start receiver\n=== RUN   TestKernelA\n", "--- PASS: TestKernelA (0.00s)\n@@ end receiver 0\n@@ done\n"
	during := func(said ...string) []warning { return []warning{{test: "TestKernelA", said: said}} }

	for name, test := range map[string]struct {
		before, printed, after string
		want                   []warning
	}{
		"a fault with what its place says of it": {
			printed: `[   62.626503] ------------[ cut here ]------------
[   62.627231] trace type BPF program uses run-time allocation
[   62.628478] WARNING: CPU: 1 PID: 509 at kernel/bpf/verifier.c:10519 bpf_check+0x2f8e/0x3470
[   62.630747] Modules linked in: ctr gcm
`,
			want: during("trace type BPF program uses run-time allocation", "WARNING: CPU: 1 PID: 509 at kernel/bpf/verifier.c:10519 bpf_check+0x2f8e/0x3470"),
		},
		"a fault of which nothing is said": {
			printed: `[    1.000001] ------------[ cut here ]------------
[    1.000002] WARNING: CPU: 0 PID: 1 at net/core/dev.c:10 dev_open+0x1/0x2
`,
			want: during("WARNING: CPU: 0 PID: 1 at net/core/dev.c:10 dev_open+0x1/0x2"),
		},
		"faults without a line to cut at": {
			printed: `[    1.000001] WARNING: net/core/dev.c:10 at dev_open+0x1/0x2, CPU#0: exe/1
[    1.000002] WARNING: possible circular locking dependency detected
[    1.000003] WARNING: suspicious RCU usage
[    1.000004] BUG: scheduling while atomic: exe/1/0x00000002
[    1.000005] BUG: sleeping function called from invalid context at mm/slab.h:10
[    1.000006] UBSAN: array-index-out-of-bounds in net/core/dev.c:10:1
`,
			want: []warning{
				{test: "TestKernelA", said: []string{"WARNING: net/core/dev.c:10 at dev_open+0x1/0x2, CPU#0: exe/1"}},
				{test: "TestKernelA", said: []string{"WARNING: possible circular locking dependency detected"}},
				{test: "TestKernelA", said: []string{"WARNING: suspicious RCU usage"}},
				{test: "TestKernelA", said: []string{"BUG: scheduling while atomic: exe/1/0x00000002"}},
				{test: "TestKernelA", said: []string{"BUG: sleeping function called from invalid context at mm/slab.h:10"}},
				{test: "TestKernelA", said: []string{"UBSAN: array-index-out-of-bounds in net/core/dev.c:10:1"}},
			},
		},
		"a line to cut at, and no head of a form that is known": {
			printed: `[    1.000001] ------------[ cut here ]------------
[    1.000002] something is wrong
[    1.000003] in a new way
[    1.000004] CPU: 0 PID: 1
[    1.000005] Call trace:
[    1.000006] and so on
`,
			want: during("something is wrong", "in a new way", "CPU: 0 PID: 1", "Call trace:"),
		},
		"a machine that is slow": {
			printed: `[   21.000001] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
[   21.000002] rcu: INFO: rcu_sched self-detected stall on CPU
[   22.000001] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [exe:1]
[   30.000001] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!
[  120.000001] INFO: task exe:1 blocked for more than 120 seconds.
[  121.000001] clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable
`,
		},
		"a test that logs such words":      {printed: "    a_test.go:1: WARNING: CPU: 1 PID: 1 at net/core/dev.c:10\n"},
		"a line of the kernel's log alone": {printed: "[    1.000001] IPv6: a note\n"},
		"a fault before the tests": {
			before: "[    1.000001] WARNING: CPU: 0 PID: 1 at net/core/dev.c:10 dev_open+0x1/0x2\n",
			want:   []warning{{said: []string{"WARNING: CPU: 0 PID: 1 at net/core/dev.c:10 dev_open+0x1/0x2"}}},
		},
		"a module that is not loaded": {
			before: "insmod: can't insert '/modules/x': unknown symbol in module, or unknown parameter\n",
			want:   []warning{{said: []string{"insmod: can't insert '/modules/x': unknown symbol in module, or unknown parameter"}}},
		},
		"a fault after the tests": {
			after: "@@ end receiver 0\n[    9.000001] WARNING: CPU: 0 PID: 1 at net/core/dev.c:10 dev_open+0x1/0x2\n",
			want:  []warning{{said: []string{"WARNING: CPU: 0 PID: 1 at net/core/dev.c:10 dev_open+0x1/0x2"}}},
		},
		"a fault in the middle of a line": {
			printed: "    a_test.go:1: wh[    1.000001] WARNING: CPU: 0 PID: 1 at net/core/dev.c:10 dev_open+0x1/0x2\n" +
				"[    1.000002] Modules linked in: ctr gcm\nat A logs\n",
			want: during("WARNING: CPU: 0 PID: 1 at net/core/dev.c:10 dev_open+0x1/0x2"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := hear(test.before + begin + test.printed + test.after + end)
			got := c.reports["receiver"]
			if diff := cmp.Diff(test.want, got.warned, wholly); diff != "" {
				t.Errorf("the warnings differ (-want +got):\n%s", diff)
			}
			if len(got.outcomes) == 0 && test.after == "" {
				t.Error("the test's own outcome is lost")
			}
			if len(c.warned) > 0 || c.half != "" {
				t.Errorf("%v and %q are left", c.warned, c.half)
			}
		})
	}
}

func TestWarningsLeaveLinesWhole(t *testing.T) {
	c := hear("@@ start receiver\n=== RUN   TestKernelA\n    a_test.go:1: wh[    1.000001] IPv6: a note\n" +
		"[    1.000002] IPv6: another\nat A logs\n--- PA[    1.000003] IPv6: a third\nSS: TestKernelA (0.00s)\n@@ end receiver 0\n@@ done\n")

	want := &report{outcomes: []outcome{{test: "TestKernelA", verdict: passed, said: []string{"a_test.go:1: what A logs"}}}}
	if diff := cmp.Diff(want, c.reports["receiver"], wholly); diff != "" {
		t.Errorf("the report differs (-want +got):\n%s", diff)
	}
}
