// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel/host"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func TestKernelDescribesAProcessInAContainer(t *testing.T) {
	kerneltest.Require(t)
	root, err := host.CgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/nettap-test-%d/cri-containerd-%s.scope", os.Getpid(), containerID)
	cgroup := filepath.Join(root, path)
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, directory := range []string{cgroup, filepath.Dir(cgroup)} {
			if err := os.Remove(directory); err != nil {
				t.Error(err)
			}
		}
	})
	sleep := startIn(t, cgroup, "sleep", "60")
	pid := sleep.Process.Pid
	seen := Seen{Comm: "sleep", Executable: "sleep", CgroupID: inodeOf(t, cgroup)}
	id := ID{PID: uint32(pid), StartNanos: startOf(t, pid)}
	executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	hostID, _ := readHostID("")
	seen.Executable = filepath.Base(executable)

	d := NewDirectory("", clock.New())
	d.ReadCommandLines = true
	alive := d.Describe(id, seen)
	want := Process{
		ID: id, HostID: hostID, Created: alive.Created, Comm: "sleep", Owner: "root",
		Executable: seen.Executable, ExecutablePath: executable, CommandLine: "sleep 60",
		ParentPID: os.Getpid(), VPID: 1, Cgroup: path, ContainerID: containerID,
	}
	if diff := cmp.Diff(want, alive); diff != "" {
		t.Errorf("Describe() of the living differs (-want +got):\n%s", diff)
	}
	if age := time.Since(alive.Created); age < -time.Second || age > time.Minute {
		t.Errorf("created at %v, %v ago", alive.Created, age)
	}
	if !d.Alive(id) {
		t.Error("Alive() = false while it lives")
	}

	if err := sleep.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if !d.Alive(id) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if d.Alive(id) {
		t.Error("Alive() = true of a zombie")
	}
	_ = sleep.Wait()              // it was killed
	d = NewDirectory("", d.clock) // one that has not met it before
	d.ReadCommandLines = true
	want.Created, want.ExecutablePath, want.CommandLine, want.ParentPID, want.VPID = alive.Created, "", "", 0, 0
	gone := d.Describe(id, seen)
	gone.Created = alive.Created
	if diff := cmp.Diff(want, gone); diff != "" {
		t.Errorf("Describe() of the dead differs (-want +got):\n%s", diff)
	}
	if d.Alive(id) {
		t.Error("Alive() = true after its end")
	}
}

// startIn starts a command as pid 1 of a pid namespace, in a cgroup.
func startIn(t *testing.T, cgroup, name string, arguments ...string) *exec.Cmd {
	t.Helper()
	directory, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	command := exec.CommandContext(t.Context(), name, arguments...)
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID, UseCgroupFD: true, CgroupFD: int(directory.Fd()),
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may be gone
		_ = command.Wait()
	})
	// Start may return while the exec is still under way.
	want := strings.Join(command.Args, "\x00") + "\x00"
	for range 500 {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", command.Process.Pid)); err != nil || string(line) == want {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return command
}

// startOf returns the start time of a process, with the precision of a tick, in nanoseconds since
// boot.
func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	process, err := procfs.NewProc(pid)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := process.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return stat.Starttime * nanosPerTick
}

func TestKernelCgroupTreeKnowsOurOwnCgroup(t *testing.T) {
	kerneltest.Require(t)
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	root, err := host.CgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			if got := newCgroupTree("").path(inodeOf(t, filepath.Join(root, path))); got != path {
				t.Errorf("path() = %q, want %q", got, path)
			}
		}
	}
}
