// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// rootInode is the inode number of the root of the machine's cgroup v2 hierarchy.
const rootInode = 1

// chooseCgroupRoot returns the cgroup2 mount point below rootPath which is the root of the
// machine's hierarchy, and not that of a container. inode returns the inode number of the cgroup
// mounted at path.
func chooseCgroupRoot(rootPath string, mountPoints []string, inode func(path string) (uint64, error)) (string, error) {
	below := strings.TrimSuffix(filepath.Join("/", rootPath), "/") + "/"
	var errs error
	for _, mountPoint := range mountPoints {
		if !strings.HasPrefix(mountPoint, below) {
			continue
		}
		number, err := inode(mountPoint)
		if err == nil && number == rootInode {
			return mountPoint, nil
		}
		if err == nil {
			err = fmt.Errorf("the cgroup2 mount %s is not the root of the host's hierarchy: mount the hostPath /sys/fs/cgroup "+
				"below a root_path, /host/sys/fs/cgroup for example, and set root_path: /host", mountPoint)
		}
		errs = errors.Join(errs, err)
	}
	if errs != nil {
		return "", errs
	}
	if rootPath != "" {
		return "", fmt.Errorf("cgroup2 is not mounted below root_path %s: mount the hostPath /sys/fs/cgroup at %s",
			rootPath, filepath.Join(rootPath, "/sys/fs/cgroup"))
	}
	return "", errors.New("cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup (next to cgroup v1: /sys/fs/cgroup/unified)")
}
