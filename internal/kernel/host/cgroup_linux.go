// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// CgroupRoot returns the path of the cgroup2 mount that is the root of the machine's hierarchy.
// Programs attached there see every process. The mount is searched for below rootPath; empty means
// /. If there is none, the error tells what to mount.
func CgroupRoot(rootPath string) (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return "", fmt.Errorf("look for cgroup2: %w", err)
	}
	var mountPoints []string
	for _, mount := range mounts {
		mountPoints = append(mountPoints, mount.Mountpoint)
	}
	if rootPath != "" {
		if rootPath, err = filepath.EvalSymlinks(rootPath); err != nil {
			return "", fmt.Errorf("root_path: %w", err)
		}
	}
	return chooseCgroupRoot(rootPath, mountPoints, cgroupInode)
}

// cgroupInode returns the inode number of a mounted cgroup. It checks the type of the file system,
// since another one may be mounted on top of it, and the root of a tmpfs has number 1 too.
func cgroupInode(path string) (uint64, error) {
	var mounted unix.Statfs_t
	if err := unix.Statfs(path, &mounted); err != nil {
		return 0, fmt.Errorf("look at the cgroup2 mount %s: %w", path, err)
	}
	if mounted.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, fmt.Errorf("the cgroup2 mount %s is hidden by another mount", path)
	}
	return inodeOf(path)
}
