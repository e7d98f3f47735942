// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

var containers atomic.Uint32

// Cgroup is a cgroup that a test has made.
type Cgroup struct {
	Path        string // in the cgroup v2 hierarchy
	ContainerID string // of the container whose name it has
	directory   string
}

// Container makes a cgroup with the name of a container's. It is removed at the end of the test,
// unless it was removed before.
func Container(t *testing.T) Cgroup {
	t.Helper()
	Require(t)
	root, err := host.CgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	c := Cgroup{ContainerID: fmt.Sprintf("%056x%08x", os.Getpid(), containers.Add(1))}
	c.Path = "/docker-" + c.ContainerID + ".scope"
	c.directory = filepath.Join(root, c.Path)
	if err := os.Mkdir(c.directory, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(c.directory) }) //nolint:errcheck // it may be gone
	return c
}

// Enter moves a process into the cgroup.
func (c Cgroup) Enter(t *testing.T, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.directory, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
}

// Remove removes the cgroup, after its processes have ended.
func (c Cgroup) Remove(t *testing.T) {
	t.Helper()
	if err := os.Remove(c.directory); err != nil {
		t.Fatal(err)
	}
}
