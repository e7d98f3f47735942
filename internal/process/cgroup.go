package process

import (
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

const (
	// maxCgroups bounds the cgroups looked at in one walk, and those remembered.
	maxCgroups = 65536

	// walkShare is the part of the time that may go into walks: 1/20.
	walkShare = 20
)

// cgroupTree finds the path of a cgroup by its id, for processes that are gone.
type cgroupTree struct {
	root func() (string, error) // path of the cgroup2 mount

	mu    sync.Mutex
	paths map[uint64]string // removed cgroups included: ids are not used again
	next  time.Time         // no walk before
}

func newCgroupTree(rootPath string) *cgroupTree {
	return &cgroupTree{
		root:  sync.OnceValues(func() (string, error) { return kernel.CgroupRoot(rootPath) }),
		paths: map[uint64]string{},
	}
}

// path returns the path of the cgroup in the cgroup v2 hierarchy, or "" when it
// is unknown. id is the inode number of its directory.
func (t *cgroupTree) path(id uint64) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.paths[id]; !ok && id != 0 {
		t.walk()
	}
	return t.paths[id]
}

// walk adds all present cgroups, unless the last walk was just now.
func (t *cgroupTree) walk() {
	started := time.Now()
	if started.Before(t.next) {
		return
	}
	root, err := t.root()
	if err != nil {
		return
	}
	present := readCgroups(root)
	if len(t.paths)+len(present) > maxCgroups {
		clear(t.paths)
	}
	maps.Copy(t.paths, present)
	now := time.Now()
	t.next = now.Add(walkShare * now.Sub(started))
}

// readCgroups returns the path of each directory below root, by inode number.
func readCgroups(root string) map[uint64]string {
	paths := map[uint64]string{}
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if !entry.IsDir() {
			return nil
		}
		if len(paths) == maxCgroups {
			return fs.SkipAll
		}
		if info, err := entry.Info(); err == nil {
			paths[inode(info)] = "/" + strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		}
		return nil
	})
	return paths
}

// CgroupsUnder returns the ids of the cgroups that are wanted, by their path below
// the root of the host's hierarchy and the container they are in, if any.
func CgroupsUnder(rootPath string, wanted func(path, containerID string) bool) ([]uint64, error) {
	root, err := kernel.CgroupRoot(rootPath)
	if err != nil {
		return nil, err
	}
	var ids []uint64
	for id, path := range readCgroups(root) {
		if containerID, _ := container(path); wanted(path, containerID) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
