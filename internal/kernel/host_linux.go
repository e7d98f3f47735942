package kernel

import (
	"fmt"
	"os"
	"syscall"

	"github.com/moby/sys/mountinfo"
)

// CgroupRoot returns the path of the cgroup2 mount that is the root of the
// machine's hierarchy: programs attached there see every process. It is looked
// for below rootPath. Without one, the error says what to mount.
func CgroupRoot(rootPath string) (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return "", fmt.Errorf("look for cgroup2: %w", err)
	}
	var mountPoints []string
	for _, mount := range mounts {
		mountPoints = append(mountPoints, mount.Mountpoint)
	}
	return chooseCgroupRoot(rootPath, mountPoints, inodeOf)
}

func inodeOf(path string) (uint64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// RequireHost says what is missing to observe the whole machine.
func RequireHost(rootPath string) error {
	_, err := CgroupRoot(rootPath)
	return err
}
