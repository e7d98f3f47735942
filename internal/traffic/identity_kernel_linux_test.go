// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelKnowsAProcessToItsEnd requires that a process has the same attributes from its first point to its end, which is reported
// after the process and the cgroup of its container are gone.
func TestKernelKnowsAProcessToItsEnd(t *testing.T) {
	l := share(t)
	for name, test := range map[string]struct {
		before, after bool // there is a collection before and after it sends
	}{
		"that has sent at a collection":       {after: true},
		"that lives for a few collections":    {before: true, after: true},
		"that had only made a socket by then": {before: true}, // a process that only makes a socket is not described
		"that is shorter than an interval":    {},
	} {
		t.Run(name, func(t *testing.T) {
			w := connect(t, l)
			container := kerneltest.Container(t)
			h := start(t, w.near.Name)
			container.Enter(t, h.pid())
			to := start(t, w.far.Name).do("listen udp %v", w.far.IPv4)
			h.do("dial udp %s", to)
			var published publication
			if test.before {
				published = append(published, l.collect(t)...)
			}
			h.do("send 1000")
			if test.after {
				published = append(published, l.collect(t)...)
			}
			executable, commandLine := must(os.Readlink(fmt.Sprintf("/proc/%d/exe", h.pid()))), h.command.Args[0]
			h.stop()
			container.Remove(t)

			eventually(t, "its series has ended", func() string {
				published = append(published, l.collect(t)...)
				return cmp.Diff(1, len(l.endings(h.pid())))
			})
			var values []int64
			series := map[string]map[string]any{}
			for _, p := range published {
				if p.attributes["process.pid"] == int64(h.pid()) && p.metric == "process.network.io" {
					series[fmt.Sprint(p.attributes)] = p.attributes
					values = append(values, p.value)
				}
			}
			if len(series) != 1 {
				t.Fatalf("it has %d series, want 1: %v", len(series), series)
			}
			if diff := cmp.Diff([]int64{1000 + 42, 0}, slices.Compact(values)); diff != "" {
				t.Errorf("its points differ, of which the last is its end (-want +got):\n%s", diff)
			}
			want := map[string]any{"container.id": container.ContainerID, "process.linux.cgroup": container.Path}
			if test.after {
				want["process.executable.path"] = executable
				want["process.command_line"] = commandLine
				want["process.parent_pid"] = int64(os.Getpid())
				want["process.vpid"] = int64(h.pid())
			}
			for _, attributes := range series {
				got := map[string]any{}
				for key := range want {
					got[key] = attributes[key]
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("attributes of its series differ (-want +got):\n%s", diff)
				}
			}
		})
	}
}
