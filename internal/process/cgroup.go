// SPDX-License-Identifier: Apache-2.0

package process

import (
	"container/list"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

const (
	// maxCgroups bounds how many cgroups are read in one walk, and how many are remembered
	// that may still exist.
	maxCgroups = 65536

	// maxRemoved bounds how many removed cgroups are remembered. It is more than the kernel's
	// ring holds, so that a collection finds all that were removed since the previous one.
	maxRemoved = 16384

	// walkShare bounds the time of walks to one part in so many.
	walkShare = 20
)

// CgroupChange is a cgroup that was made or removed.
type CgroupChange struct {
	ID   uint64 // inode number of its directory
	Path string // in the cgroup v2 hierarchy; "" if it was removed
}

// CgroupWatch reports cgroups that are made and removed.
type CgroupWatch interface {
	// Changes calls visit with each change since the previous call, oldest first. whole tells
	// whether these are all changes since this call or an earlier one. If not, there may be
	// cgroups that only a walk finds.
	Changes(visit func(CgroupChange)) (whole bool, err error)
}

// cgroupTree finds the path of a cgroup by its id, also for processes that have ended.
type cgroupTree struct {
	root func() (string, error) // path of the cgroup2 mount

	mu      sync.Mutex
	watch   CgroupWatch              // nil if there is none
	paths   map[uint64]string        // of the cgroups that exist, as far as is known
	removed map[uint64]*list.Element // the cgroups that were removed; their ids are not used again
	order   *list.List               // of removedCgroups, the one used longest ago first
	walked  bool                     // since the last walk all changes are known
	version uint64                   // changes whenever paths does
	next    time.Time                // the earliest time of the next walk
}

type removedCgroup struct {
	id   uint64
	path string
}

func newCgroupTree(rootPath string) *cgroupTree {
	return &cgroupTree{
		root:    sync.OnceValues(func() (string, error) { return host.CgroupRoot(rootPath) }),
		paths:   map[uint64]string{},
		removed: map[uint64]*list.Element{},
		order:   list.New(),
	}
}

// path returns the path of the cgroup in the cgroup v2 hierarchy, or "" if it is not known. id is
// the inode number of its directory.
func (t *cgroupTree) path(id uint64) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id == 0 {
		return ""
	}
	if path, ok := t.find(id); ok {
		return path
	}
	whole, _ := t.follow() // the error is reported by FollowCgroups, at each collection
	if path, ok := t.find(id); ok || whole && t.walked {
		return path
	}
	t.walk(whole)
	path, _ := t.find(id)
	return path
}

func (t *cgroupTree) find(id uint64) (path string, ok bool) {
	if path, ok = t.paths[id]; ok {
		return path, true
	}
	place, ok := t.removed[id]
	if !ok {
		return "", false
	}
	t.order.MoveToBack(place)
	return place.Value.(removedCgroup).path, true
}

// follow applies the changes, and returns whether they are all that there were.
func (t *cgroupTree) follow() (whole bool, err error) {
	if t.watch == nil {
		return false, nil
	}
	whole, err = t.watch.Changes(func(change CgroupChange) {
		t.version++
		switch {
		case change.Path == "":
			t.remove(change.ID)
		case len(t.paths) < maxCgroups:
			t.paths[change.ID] = change.Path
		}
	})
	t.walked = t.walked && whole
	return whole && err == nil, err
}

// remove moves a cgroup to those that were removed.
func (t *cgroupTree) remove(id uint64) {
	path, ok := t.paths[id]
	if !ok {
		return
	}
	delete(t.paths, id)
	t.removed[id] = t.order.PushBack(removedCgroup{id: id, path: path})
	if t.order.Len() > maxRemoved {
		oldest := t.order.Remove(t.order.Front()).(removedCgroup)
		delete(t.removed, oldest.id)
	}
}

// container returns the container and the pod of a cgroup, as far as the names of cgroups can be
// trusted.
func (t *cgroupTree) container(cgroup string) (containerID, podUID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.believed(cgroup)
}

// believed is container for callers that hold the lock.
func (t *cgroupTree) believed(cgroup string) (containerID, podUID string) {
	root, err := t.root()
	if err != nil {
		return container(cgroup) // there is no tree to check the names against
	}
	isRoots := func(c claim) bool {
		if strings.Contains(c.cgroup+"/", "/../") {
			return false // relative to another cgroup
		}
		info, err := os.Lstat(filepath.Join(root, c.cgroup))
		return err == nil && owner(info) == 0
	}
	return believed(cgroup, isRoots, t.isOnly)
}

// isOnly reports whether no other cgroup claims the same. It is false if it is not known which
// cgroups exist.
func (t *cgroupTree) isOnly(c claim) bool {
	whole, _ := t.follow()
	if !(whole && t.walked) && !t.walk(whole) {
		return false
	}
	others := 0
	each := func(path string) {
		for _, other := range claims(path) {
			last := other.cgroup == path
			if last && path != c.cgroup && (c.containerID != "" && other.containerID == c.containerID || c.podUID != "" && other.podUID == c.podUID) {
				others++
			}
		}
	}
	for _, path := range t.paths {
		each(path)
	}
	for place := t.order.Front(); place != nil; place = place.Next() {
		each(place.Value.(removedCgroup).path)
	}
	if strings.Contains(c.cgroup+"/", "/../") {
		others-- // one of them is c itself, by another path
	}
	return others <= 0
}

// walk reads the existing cgroups, unless the last walk was very recent, and returns whether it
// did. Cgroups that it does not find were removed. If all changes are known no further walk is
// needed.
func (t *cgroupTree) walk(whole bool) bool {
	started := time.Now()
	if started.Before(t.next) {
		return false
	}
	root, err := t.root()
	if err != nil {
		return false
	}
	t.enter(readCgroups(root))
	t.walked = whole
	now := time.Now()
	t.next = now.Add(walkShare * now.Sub(started))
	return true
}

// enter applies the result of a walk. Cgroups that are not in it were removed.
func (t *cgroupTree) enter(present map[uint64]string) {
	for id := range t.paths {
		if _, ok := present[id]; !ok {
			t.remove(id)
		}
	}
	t.paths = present
	t.version++
}

// under returns the ids of the wanted cgroups and the version of the tree, but no ids if the
// version is still since. If changes are reported it walks only once.
func (t *cgroupTree) under(since uint64, wanted func(path, containerID string) bool) (ids []uint64, version uint64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	whole, err := t.follow()
	if err != nil {
		return nil, since, err
	}
	if !whole || !t.walked {
		root, err := t.root()
		if err != nil {
			return nil, since, err
		}
		t.enter(readCgroups(root))
		t.walked = whole
	}
	if t.version == since {
		return nil, since, nil
	}
	for id, path := range t.paths {
		if containerID, _ := t.believed(path); wanted(path, containerID) {
			ids = append(ids, id)
		}
	}
	return ids, t.version, nil
}

// FollowCgroups applies the cgroups that were made and removed. It is called at each collection,
// as otherwise the kernel's ring would overflow.
func (d *Directory) FollowCgroups() error {
	d.cgroups.mu.Lock()
	defer d.cgroups.mu.Unlock()
	if _, err := d.cgroups.follow(); err != nil {
		return fmt.Errorf("follow cgroups: %w", err)
	}
	return nil
}

// WatchCgroups makes the directory use a watch, which also knows cgroups that are removed before
// it can read them.
func (d *Directory) WatchCgroups(watch CgroupWatch) { d.cgroups.watch = watch }

// readCgroups returns the path of each directory below root, by inode number.
func readCgroups(root string) map[uint64]string {
	paths := map[uint64]string{}
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was removed meanwhile
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

// Cgroups returns the ids of the wanted cgroups, which are selected by their path below the root
// of the host's hierarchy and by the container that they belong to, if any. version changes
// whenever a cgroup was made or removed; if it is still since, no ids are returned.
func (d *Directory) Cgroups(since uint64, wanted func(path, containerID string) bool) (ids []uint64, version uint64, err error) {
	return d.cgroups.under(since, wanted)
}
