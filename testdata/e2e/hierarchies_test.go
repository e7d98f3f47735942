// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLockedDistributionBesideCgroupV1 runs on a kernel that was booted with lockdown=integrity. It has
// the hierarchies of cgroup v1 first, and then the one of cgroup2 next to them, where the error of the
// Collector says that it should be mounted.
func TestLockedDistributionBesideCgroupV1(t *testing.T) {
	if lockdown, err := os.ReadFile("/sys/kernel/security/lockdown"); err != nil || !strings.Contains(string(lockdown), "[integrity]") {
		t.Skip("the kernel was not booted with lockdown=integrity")
	}
	const root, unified = "/sys/fs/cgroup", "/sys/fs/cgroup/unified"
	if err := unix.Unmount(root, 0); err != nil {
		t.Fatal(err)
	}
	mount(t, "tmpfs", root, "")
	for _, controllers := range []string{"cpu", "pids", "net_cls,net_prio", "none,name=systemd"} { // net_cls marks sockets, as cgroup2 does
		mount(t, "cgroup", filepath.Join(root, strings.TrimPrefix(controllers, "none,name=")), controllers)
	}
	output := Refuse(t, Options{Receivers: fast})
	const want = "cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup (next to cgroup v1: " + unified + ")"
	if last := tail(strings.TrimSpace(output), 1); !strings.Contains(last, want) {
		t.Errorf("the error does not say %q:\n%s", want, tail(output, 5))
	}
	mount(t, "cgroup2", unified, "")
	c := StartWith(t, Options{Traces: true, Receivers: fast + `
	  calls: {collection_interval: 200ms, initial_delay: 0s, min_duration: 0s, max_per_second: 0, functions: [sock_write_iter]}
	`})
	address := listen(t)
	connection, err := net.DialTCP("tcp4", nil, address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	c.Wait("the accepted connection is reported", func() bool {
		return len(c.Records(Attributes{"network.local.port": address.Port, "process.pid": os.Getpid()})) == 1
	})
	c.await("process.network.io", Attributes{"process.pid": os.Getpid(), "network.interface.name": "lo"})
	c.Wait("the call that sent is traced", func() bool {
		return len(c.Spans(Attributes{"process.pid": os.Getpid(), "nettap.call.syscall": "write", "network.peer.port": address.Port})) == 1
	})
	c.Stop()
}

// mount mounts a file system at a directory, which it makes.
func mount(t *testing.T, kind, directory, options string) {
	t.Helper()
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", directory, kind, 0, options); err != nil {
		t.Fatalf("mount %s with %q at %s: %v", kind, options, directory, err)
	}
}
