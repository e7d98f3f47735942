// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// answers is a program that answers the first client that connects.
const answers = `
import socket
input()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
listener.accept()[0].sendall(b"x" * 1000)
`

// TestDistributionKnowsAContainerThatIsGone has a container that is removed, with its cgroup,
// before the first collection.
func TestDistributionKnowsAContainerThatIsGone(t *testing.T) {
	c := StartWith(t, Options{Receivers: "nettap: {calls: {min_duration: 0s, max_per_second: 0}}", Traces: true})
	pid, container := answerInContainer(t)
	c.Stop()

	of, within := Attributes{"process.pid": pid}, Attributes{"process.pid": pid, "container.id": container.ContainerID}
	points := c.Points("process.network.io", within)
	if len(points) != 2 || !points[0].Ended || !points[1].Ended {
		t.Errorf("its series are %+v, want one for each direction, and their ends", points)
	}
	if all := c.Points("process.network.io", of); len(all) != len(points) {
		t.Errorf("it has other series: %+v", all)
	}
	if records := c.Records(within); len(records) != 1 {
		t.Errorf("the records of what it accepted are %+v, want one", records)
	}
	spans := c.Spans(within)
	if len(spans) == 0 || len(spans) != len(c.Spans(of)) {
		t.Errorf("%d spans of %d know its container", len(spans), len(c.Spans(of)))
	}
}

// answerInContainer has a process in a container answer a client, and removes the container.
func answerInContainer(t *testing.T) (pid int, container kerneltest.Cgroup) {
	t.Helper()
	container = kerneltest.Container(t)
	command := exec.Command("/usr/bin/python3", "-I", "-S", "-c", answers)
	output := kerneltest.OutputOf(t, command)
	server := kerneltest.StartProgram(t, command)
	pid = server.Process.Pid
	container.Enter(t, pid)
	fmt.Fprintln(server.Input)
	address, err := net.ResolveTCPAddr("tcp", "127.0.0.1:"+output.Line())
	if err != nil {
		t.Fatal(err)
	}
	connection := kerneltest.Dial(t, address)
	defer connection.Close()
	if answer, err := io.ReadAll(connection); len(answer) != 1000 || err != nil {
		t.Fatalf("it answers %d bytes, and error %v", len(answer), err)
	}
	server.End()
	container.Remove(t)
	return pid, container
}
