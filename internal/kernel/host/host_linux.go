// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Require returns nil if this process can observe the whole machine, whose / is mounted at
// rootPath (empty means /). Otherwise the error names everything that is missing, and what to do
// about it. The error matches [ErrUnsupported] if the kernel is the reason, and [os.ErrPermission]
// if privileges are missing.
//
// What only one hook needs is checked by kernel.Probe. Neither tracefs nor bpffs is needed: tp_btf
// programs are attached by file descriptor, and nothing is pinned. Before Linux 5.11 Require lifts
// RLIMIT_MEMLOCK, to which the memory of BPF maps is charged there.
func Require(rootPath string) error {
	release, err := releaseOf()
	if err != nil {
		return err
	}
	_, noCgroup := CgroupRoot(rootPath)
	return errors.Join(
		requireRelease(release),
		requireBTF("/sys/kernel/btf/vmlinux"),
		RequireHeld(CapBPF, CapPerfmon, CapSysPtrace),
		requireNamespaces(rootPath, inodeOf),
		noCgroup,
		liftMemoryLimit(release),
	)
}

// InCgroupNamespace reports whether this process is in a cgroup namespace of its
// own, where /proc/PID/cgroup is relative to its own container.
func InCgroupNamespace() bool {
	number, err := inodeOf("/proc/self/ns/cgroup")
	return err == nil && number != initialCgroupNamespace
}

// releaseOf returns what uname -r prints.
func releaseOf() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("kernel release: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

// RequireHeld returns an error matching [os.ErrPermission] that names the needed capabilities
// which this process does not have.
func RequireHeld(needed ...Capability) error {
	self, err := procfs.Self()
	if err != nil {
		return fmt.Errorf("capabilities of this process: %w", err)
	}
	status, err := self.NewStatus()
	if err != nil {
		return fmt.Errorf("capabilities of this process: %w", err)
	}
	return capabilities(status.CapEff).require(needed...)
}

// liftMemoryLimit lets BPF maps take the memory that they need. From Linux 5.11 on their memory is
// charged to the memory cgroup instead.
func liftMemoryLimit(release string) error {
	if major, minor, err := parseRelease(release); err != nil || major > 5 || major == 5 && minor >= 11 {
		return err
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); err != nil {
		return fmt.Errorf("before Linux 5.11 BPF maps count as locked memory: grant %v or lift RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity): %w",
			CapSysResource, err)
	}
	return nil
}

func inodeOf(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, fmt.Errorf("look at %s: %w", path, err)
	}
	return stat.Ino, nil
}
