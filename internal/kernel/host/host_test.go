// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRequireRelease(t *testing.T) {
	for name, test := range map[string]struct {
		release string
		want    string // part of the error
	}{
		"the oldest that will do":       {release: "5.10.0-46-cloud-amd64"},
		"a newer minor":                 {release: "5.15.0-generic"},
		"a newer major, a lower minor":  {release: "6.1.0-56-cloud-amd64"},
		"an older minor":                {release: "5.4.0-200-generic", want: "nettap needs Linux 5.10 or newer, and this is 5.4.0-200-generic"},
		"an older major, a high minor":  {release: "4.19.0", want: "nettap needs Linux 5.10"},
		"a release that is not numbers": {release: "unknown", want: `kernel release "unknown"`},
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, requireRelease(test.release), test.want)
		})
	}
}

func TestRequireBTF(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vmlinux")
	err := requireBTF(file)
	wantError(t, err, "CONFIG_DEBUG_INFO_BTF=y")
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v does not match ErrUnsupported", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, requireBTF(file), "")
}

func TestRequireNamespaces(t *testing.T) {
	const container = 4026532000

	for name, test := range map[string]struct {
		rootPath string
		own      string // the namespace that belongs to a container
		absent   string // the namespace that this kernel does not have
		want     string
	}{
		"the machine's own": {},
		"a container's cgroup namespace": {
			own:  "cgroup",
			want: "mount the hostPath /sys/fs/cgroup below a root_path, /host/sys/fs/cgroup for example, set root_path: /host, and set hostPID: true",
		},
		"a container's cgroup namespace with the host's cgroups below root_path": {own: "cgroup", rootPath: "/host"},
		"a container's pid namespace":                                            {own: "pid", want: "set hostPID: true"},
		"a container's pid namespace, whatever is mounted":                       {own: "pid", rootPath: "/host", want: "set hostPID: true"},
		"a user namespace":                 {own: "user", want: "set hostUsers: true"},
		"a time namespace":                 {own: "time", want: "start it without one"},
		"a kernel without time namespaces": {absent: "time"},
	} {
		t.Run(name, func(t *testing.T) {
			err := requireNamespaces(test.rootPath, func(path string) (uint64, error) {
				name := filepath.Base(path)
				if name == test.own {
					return container, nil
				}
				if name == test.absent {
					return 0, os.ErrNotExist
				}
				for _, namespace := range initialNamespaces {
					if path == "/proc/self/ns/"+namespace.name {
						return namespace.inode, nil
					}
				}
				return 0, errors.New("no such namespace: " + path)
			})
			wantError(t, err, test.want)
		})
	}
}

func TestRequireNamespacesNamesAllThatAreWrong(t *testing.T) {
	err := requireNamespaces("", func(string) (uint64, error) { return 1, nil })
	if lines := strings.Count(err.Error(), "\n") + 1; lines != len(initialNamespaces) {
		t.Errorf("%d lines, want one for each of %d namespaces:\n%v", lines, len(initialNamespaces), err)
	}
}

func TestCapabilitiesRequire(t *testing.T) {
	for name, test := range map[string]struct {
		held capabilities
		want string
	}{
		"all of them":                        {held: 1<<CapBPF | 1<<CapPerfmon | 1<<CapNetAdmin},
		"CAP_SYS_ADMIN stands for two":       {held: 1<<CapSysAdmin | 1<<CapNetAdmin},
		"CAP_SYS_ADMIN stands for two alone": {held: 1 << CapSysAdmin, want: "missing CAP_NET_ADMIN: run as root"},
		"several are named":                  {held: 1 << CapPerfmon, want: "missing CAP_BPF, CAP_NET_ADMIN: run as root"},
		"none at all":                        {want: "missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN: run as root"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.held.require(CapBPF, CapPerfmon, CapNetAdmin)
			wantError(t, err, test.want)
			if err != nil && !errors.Is(err, os.ErrPermission) {
				t.Errorf("%v does not match os.ErrPermission", err)
			}
		})
	}
}

func TestChooseCgroupRoot(t *testing.T) {
	for name, test := range map[string]struct {
		rootPath  string
		inodes    map[string]uint64 // by mount point; 0 if it cannot be read
		want      string
		wantError string
	}{
		"the only mount": {
			inodes: map[string]uint64{"/sys/fs/cgroup": 1},
			want:   "/sys/fs/cgroup",
		},
		"beside a container's": {
			inodes: map[string]uint64{"/run/c/cgroup": 77, "/sys/fs/cgroup/unified": 1},
			want:   "/sys/fs/cgroup/unified",
		},
		"below root_path, not the container's own": {
			rootPath: "/host/",
			inodes:   map[string]uint64{"/sys/fs/cgroup": 1, "/host/sys/fs/cgroup": 1},
			want:     "/host/sys/fs/cgroup",
		},
		"a directory that only begins like root_path": {
			rootPath:  "/host",
			inodes:    map[string]uint64{"/hostile/sys/fs/cgroup": 1},
			wantError: "cgroup2 is not mounted below root_path /host: mount the hostPath /sys/fs/cgroup at /host/sys/fs/cgroup",
		},
		"no mount at all": {
			wantError: "cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup",
		},
		"only a container's": {
			inodes:    map[string]uint64{"/sys/fs/cgroup": 4242},
			wantError: "the cgroup2 mount /sys/fs/cgroup is not the root of the host's hierarchy: mount the hostPath /sys/fs/cgroup below a root_path",
		},
		"one that cannot be looked at": {
			inodes:    map[string]uint64{"/sys/fs/cgroup": 0},
			wantError: "permission denied",
		},
		"one that cannot be looked at beside the right one": {
			inodes: map[string]uint64{"/a": 0, "/b": 1},
			want:   "/b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mountPoints []string
			for mountPoint := range test.inodes {
				mountPoints = append(mountPoints, mountPoint)
			}
			got, err := chooseCgroupRoot(test.rootPath, mountPoints, func(path string) (uint64, error) {
				if test.inodes[path] == 0 {
					return 0, os.ErrPermission
				}
				return test.inodes[path], nil
			})
			wantError(t, err, test.wantError)
			if got != test.want {
				t.Errorf("chooseCgroupRoot() = %q, want %q", got, test.want)
			}
		})
	}
}

// wantError checks that err holds part, or that there is none when part is empty.
func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if part == "" && err != nil {
		t.Errorf("unexpected error: %v", err)
	}
	if part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
		t.Errorf("error is %q, want %q in it", err, part)
	}
}
