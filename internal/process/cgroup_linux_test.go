package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCgroupTree(t *testing.T) {
	root := t.TempDir()
	tree := newTree(root)
	inner := makeCgroup(t, root, "a.slice/b.scope")
	writeFile(t, root, "a.slice/cgroup.procs", "")

	for name, test := range map[string]struct {
		id   uint64
		want string
	}{
		"the root":          {inodeOf(t, root), "/"},
		"a cgroup":          {inner, "/a.slice/b.scope"},
		"a file":            {inodeOf(t, filepath.Join(root, "a.slice/cgroup.procs")), ""},
		"an unknown number": {1 << 60, ""},
		"no number":         {0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree.next = time.Time{}
			if got := tree.path(test.id); got != test.want {
				t.Errorf("path(%d) = %q, want %q", test.id, got, test.want)
			}
		})
	}
}

func TestCgroupTreeRemembersRemovedCgroups(t *testing.T) {
	root := t.TempDir()
	tree := newTree(root)
	id := makeCgroup(t, root, "gone")
	tree.path(id)
	if err := os.Remove(filepath.Join(root, "gone")); err != nil {
		t.Fatal(err)
	}
	tree.next = time.Time{}
	tree.path(1 << 60) // walks

	if got := tree.path(id); got != "/gone" {
		t.Errorf("path() of a removed cgroup = %q, want /gone", got)
	}
}

func TestCgroupTreeDoesNotWalkAllTheTime(t *testing.T) {
	root := t.TempDir()
	tree := newTree(root)
	tree.next = time.Now().Add(time.Hour)
	id := makeCgroup(t, root, "new")

	if got := tree.path(id); got != "" {
		t.Errorf("path() = %q before the next walk is due", got)
	}
	tree.next = time.Now()
	if got := tree.path(id); got != "/new" {
		t.Errorf("path() = %q when a walk is due, want /new", got)
	}
	if !tree.next.After(time.Now().Add(-time.Second)) {
		t.Errorf("the next walk is due at %v, in the past", tree.next)
	}
}

func TestCgroupTreeIsBounded(t *testing.T) {
	root := t.TempDir()
	tree := newTree(root)
	for id := range uint64(maxCgroups) {
		tree.paths[1<<40+id] = fmt.Sprint("/", id)
	}
	id := makeCgroup(t, root, "new")

	if got := tree.path(id); got != "/new" || len(tree.paths) > 2 {
		t.Errorf("path() = %q with %d remembered, want /new and only what is there", got, len(tree.paths))
	}
}

func TestCgroupTreeWithoutCgroups(t *testing.T) {
	tree := newTree("")
	tree.root = func() (string, error) { return "", errors.New("cgroup2 is not mounted") }
	if got := tree.path(5); got != "" {
		t.Errorf("path() = %q, want none", got)
	}
}

func newTree(root string) *cgroupTree {
	tree := newCgroupTree("")
	tree.root = func() (string, error) { return root, nil }
	return tree
}

func makeCgroup(t *testing.T, root, name string) (id uint64) {
	t.Helper()
	directory := filepath.Join(root, name)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	return inodeOf(t, directory)
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return inode(info)
}
