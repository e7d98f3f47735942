package kernel

import (
	"fmt"
	"path/filepath"
	"strings"
)

// rootInode is the inode number of the directory of the real root of cgroup v2.
const rootInode = 1

// chooseCgroupRoot returns that of the cgroup2 mount points below rootPath which
// is the root of the hierarchy, not the root of a container. inode returns the
// inode number of a directory.
func chooseCgroupRoot(rootPath string, mountPoints []string, inode func(path string) (uint64, error)) (string, error) {
	prefix := strings.TrimSuffix(filepath.Clean("/"+rootPath), "/") + "/"
	found := ""
	for _, mountPoint := range mountPoints {
		if !strings.HasPrefix(mountPoint, prefix) {
			continue
		}
		number, err := inode(mountPoint)
		if err != nil {
			return "", fmt.Errorf("look at the cgroup2 mount: %w", err)
		}
		if number == rootInode {
			return mountPoint, nil
		}
		found = mountPoint
	}
	if found != "" {
		return "", fmt.Errorf("the cgroup2 mount %s is not the root of the host's hierarchy: "+
			"mount the hostPath /sys/fs/cgroup into the container below root_path, and set root_path: %w", found, ErrUnsupported)
	}
	if rootPath != "" {
		return "", fmt.Errorf("cgroup2 is not mounted below root_path %s: mount the hostPath /sys/fs/cgroup at %s: %w",
			rootPath, filepath.Join(rootPath, "/sys/fs/cgroup"), ErrUnsupported)
	}
	return "", fmt.Errorf("cgroup2 is not mounted: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified: %w", ErrUnsupported)
}
