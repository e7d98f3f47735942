// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/cgroups"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// TestKernelKnowsTheContainerOfACallThatIsGone removes a container and its cgroup before its calls are
// read.
func TestKernelKnowsTheContainerOfACallThatIsGone(t *testing.T) {
	watch := cgroups.New(nil, new(stats.Recorder))
	kerneltest.Start(t, watch)
	o := observe(t, Options{AvoidHooks: []string{"kprobe.session", "kprobe.multi", "fentry.multi", "fentry", "kprobe"}}, func(c *Calls) {
		c.processes.WatchCgroups(watch)
	})
	container := kerneltest.Container(t)
	o.want(t, Options{Filter: Filter{Syscalls: []string{"sendto"}}}) // the process must not be described before it is in the container
	h := startHelper(t, "sends")
	o.want(t, Options{Filter: Filter{PIDs: []uint32{h.pid()}, Syscalls: []string{"sendto"}}})
	container.Enter(t, h.Process.Pid)
	fmt.Fprintln(h.in, 7)
	must(h.out.ReadString('\n'))
	h.end(t)
	container.Remove(t)

	var got []any
	for _, tr := range o.collect(t) {
		got = append(got, value(tr.resource, "container.id"))
	}
	if diff := gocmp.Diff([]any{container.ContainerID}, got); diff != "" {
		t.Errorf("the containers of its calls differ (-want +got):\n%s", diff)
	}
}
