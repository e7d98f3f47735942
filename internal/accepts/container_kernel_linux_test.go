// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"os/exec"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/cgroups"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// A container and its cgroup may be gone before its accepts are read.
func TestKernelKnowsTheContainerOfAnAcceptThatIsGone(t *testing.T) {
	watch := cgroups.New(nil, new(stats.Recorder))
	kerneltest.Start(t, watch)
	o := observe(t, func(a *Accepts) { a.processes.WatchCgroups(watch) })
	container := kerneltest.Container(t)
	listener, address := listen(t, "127.0.0.1:0")
	server := newServer(t, "blocking", listener, 0, 0)
	start(t, server)
	container.Enter(t, server.Process.Pid)
	connect(t, address)
	end(server)
	container.Remove(t)

	logs, err := o.accepts.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	for record, resource := range records(logs) {
		if port, _ := record.Attributes().Get("network.local.port"); port.Int() == int64(address.Port()) {
			got = append(got, resource.Attributes().AsRaw()["container.id"])
		}
	}
	if diff := gocmp.Diff([]any{container.ContainerID}, got); diff != "" {
		t.Errorf("the containers of its accepts differ (-want +got):\n%s", diff)
	}
}

// end ends a server, and waits until it has.
func end(server *exec.Cmd) {
	server.Process.Kill()
	server.Wait()
}
