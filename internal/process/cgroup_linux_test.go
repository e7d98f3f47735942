// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	tree := newTree(t.TempDir())
	watch := &fakeWatch{changes: []CgroupChange{{ID: 1, Path: "/wanted"}, {ID: 1}}}
	tree.watch = watch
	for id := range uint64(3 * maxRemoved) {
		watch.changes = append(watch.changes, CgroupChange{ID: 2, Path: "/lives"}, CgroupChange{ID: id + 3, Path: "/gone"}, CgroupChange{ID: id + 3})
		if _, err := tree.follow(); err != nil {
			t.Fatal(err)
		}
		if got := tree.path(1); got != "/wanted" {
			t.Fatalf("the path of a removed cgroup that is wanted is %q, when %d others were removed since", got, id)
		}
	}
	if len(tree.paths) != 1 || len(tree.removed) != maxRemoved || tree.order.Len() != maxRemoved {
		t.Errorf("%d cgroups are remembered, and %d removed ones in a list of %d", len(tree.paths), len(tree.removed), tree.order.Len())
	}
	for id := range uint64(maxCgroups) {
		watch.changes = append(watch.changes, CgroupChange{ID: id + 1, Path: "/lives"})
	}
	if _, err := tree.follow(); err != nil || len(tree.paths) != maxCgroups {
		t.Errorf("%d cgroups are remembered, want %d (error %v)", len(tree.paths), maxCgroups, err)
	}
}

// fakeWatch reports what a test gives it.
type fakeWatch struct {
	changes []CgroupChange
	lost    bool // a change was lost since the previous call
}

func (w *fakeWatch) Changes(visit func(CgroupChange)) (whole bool, err error) {
	for _, change := range w.changes {
		visit(change)
	}
	whole = !w.lost
	w.changes, w.lost = nil, false
	return whole, nil
}

func TestCgroupTreeKnowsWhatIsRemovedBeforeItLooks(t *testing.T) {
	tree := newTree(t.TempDir())
	tree.watch = &fakeWatch{changes: []CgroupChange{{ID: 1 << 40, Path: "/a"}, {ID: 1 << 41, Path: "/b"}, {ID: 1 << 40}}}

	if got := [2]string{tree.path(1 << 40), tree.path(1 << 41)}; got != [2]string{"/a", "/b"} {
		t.Errorf("the paths are %q, want /a of a removed cgroup and /b", got)
	}
}

func TestCgroupTreeWalksOnceUnlessChangesAreLost(t *testing.T) {
	root := t.TempDir()
	tree := newTree(root)
	watch := &fakeWatch{}
	tree.watch = watch
	before := makeCgroup(t, root, "before")
	look := func(what string, id uint64, want string) {
		t.Helper()
		tree.next = time.Time{}
		if got := tree.path(id); got != want {
			t.Errorf("the path of %s is %q, want %q", what, got, want)
		}
	}

	look("a cgroup that is older than the watch", before, "/before")
	unseen := makeCgroup(t, root, "unseen")
	look("a cgroup that the watch has not told of", unseen, "")
	watch.lost = true
	look("a cgroup that the watch has lost", unseen, "/unseen")
	later := makeCgroup(t, root, "later")
	look("a cgroup that was made when the walk had begun", later, "/later")
	unseen = makeCgroup(t, root, "again")
	look("a cgroup that the watch has not told of again", unseen, "")
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

// Without a watch a new cgroup is found only by walking.
func TestCgroupTreeFiltersWithoutWalkingAgain(t *testing.T) {
	root := t.TempDir()
	tree, watch := newTree(root), new(fakeWatch)
	tree.watch = watch
	first := makeCgroup(t, root, "wanted.first")
	makeCgroup(t, root, "other")
	var version uint64
	expect := func(when string, want ...uint64) {
		t.Helper()
		before := version
		ids, now, err := tree.under(version, func(path, _ string) bool { return strings.HasPrefix(path, "/wanted") })
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(ids)
		slices.Sort(want)
		if !slices.Equal(ids, want) || (now == before) != (want == nil) {
			t.Errorf("%s: the cgroups are %v of version %d after %d, want %v", when, ids, now, before, want)
		}
		version = now
	}
	expect("at first", first)
	second := makeCgroup(t, root, "wanted.second")
	expect("when nobody told of the second")
	watch.changes = []CgroupChange{{ID: second, Path: "/wanted.second"}}
	expect("when somebody did", first, second)
	third := makeCgroup(t, root, "wanted.third")
	watch.lost = true
	expect("when something was lost", first, second, third)
	watch.changes = []CgroupChange{{ID: first}}
	expect("when the first was removed and the walk made up for what was lost", first, second, third)
	watch.changes = []CgroupChange{{ID: first}}
	expect("when the first was removed", second, third)
}
