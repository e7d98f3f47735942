// SPDX-License-Identifier: Apache-2.0

// Package host checks whether this process can observe the whole machine: its kernel, its
// capabilities, its namespaces and where cgroups are mounted.
package host

import (
	"errors"
	"fmt"
	"os"
)

// ErrUnsupported is matched by an error that a newer or differently configured kernel would not
// give.
var ErrUnsupported = errors.New("not supported by this kernel")

// oldestMajor and oldestMinor are the oldest Linux that has all the hooks nettap needs.
const oldestMajor, oldestMinor = 5, 10

// requireRelease checks the release of the kernel, as uname -r gives it.
func requireRelease(release string) error {
	major, minor, err := parseRelease(release)
	if err != nil {
		return err
	}
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		return fmt.Errorf("nettap needs Linux %d.%d or newer, and this is %s: %w", oldestMajor, oldestMinor, release, ErrUnsupported)
	}
	return nil
}

func parseRelease(release string) (major, minor int, err error) {
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return 0, 0, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return major, minor, nil
}

// requireBTF checks that the kernel describes its types in file.
func requireBTF(file string) error {
	_, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the kernel does not describe its types in %s: it must be built with CONFIG_DEBUG_INFO_BTF=y, and sysfs mounted on /sys: %w",
			file, ErrUnsupported)
	}
	return err
}

// The namespaces of the machine itself, unlike those of a container, have fixed inode numbers.
//
// Source: include/linux/proc_ns.h.
const (
	initialTimeNamespace   = 4026531834
	initialCgroupNamespace = 4026531835
	initialPIDNamespace    = 4026531836
	initialUserNamespace   = 4026531837
)

var initialNamespaces = []struct {
	name       string
	inode      uint64
	complaint  string
	unlessRoot bool // not required if root_path is set
}{
	{
		name: "cgroup", inode: initialCgroupNamespace, unlessRoot: true,
		complaint: "in a cgroup namespace of its own nettap would measure its own container: mount the hostPath /sys/fs/cgroup " +
			"below a root_path, /host/sys/fs/cgroup for example, set root_path: /host, and set hostPID: true (docker: --cgroupns=host)",
	}, {
		name: "pid", inode: initialPIDNamespace,
		complaint: "in a pid namespace of its own nettap would not know the host's processes: set hostPID: true (docker: --pid=host)",
	}, {
		name: "user", inode: initialUserNamespace,
		complaint: "in a user namespace of its own nettap has no capabilities that the kernel would honour: set hostUsers: true (docker: --userns=host)",
	}, {
		name: "time", inode: initialTimeNamespace,
		complaint: "in a time namespace of its own nettap would take the kernel's times for others: start it without one",
	},
}

// requireNamespaces checks that this process is in the namespaces from which it sees the whole
// machine. inode returns the inode number of a file.
func requireNamespaces(rootPath string, inode func(path string) (uint64, error)) error {
	var errs error
	for _, namespace := range initialNamespaces {
		if namespace.unlessRoot && rootPath != "" {
			continue
		}
		number, err := inode("/proc/self/ns/" + namespace.name)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without such namespaces
		}
		if err == nil && number != namespace.inode {
			err = errors.New(namespace.complaint)
		}
		errs = errors.Join(errs, err)
	}
	return errs
}
