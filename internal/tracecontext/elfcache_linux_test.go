// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFindMapped finds a file without map_files.
func TestFindMapped(t *testing.T) {
	process := t.TempDir()
	path := filepath.Join(process, "root/lib/libthread.so")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	_, inode := deviceAndInode(info)
	mapped := mapping{executable: true, device: "00:00", inode: inode, path: "/lib/libthread.so"}
	if got, _, err := findMapped(process, mapped); got != path || err != nil {
		t.Errorf("findMapped() = %q, %v, want %q", got, err, path)
	}

	replaced := mapped
	replaced.inode++
	gone := mapped
	gone.path += deleted
	for name, m := range map[string]mapping{"replaced": replaced, "deleted": gone} {
		if got, _, err := findMapped(process, m); err == nil {
			t.Errorf("findMapped() of a file that was %s = %q, want an error", name, got)
		}
	}

	program := filepath.Join(process, "exe")
	if err := os.Symlink(path, program); err != nil {
		t.Fatal(err)
	}
	if got, _, err := findMapped(process, gone); got != program || err != nil {
		t.Errorf("findMapped() of a deleted program = %q, %v, want %q", got, err, program)
	}
	if got, _, err := findMapped(process, replaced); !errors.Is(err, errReplaced) {
		t.Errorf("findMapped() of a deleted library = %q, %v, want %v", got, err, errReplaced)
	}

	// The link leads to the file as it was when it was mapped.
	entry := filepath.Join(process, "map_files/0-0")
	if err := errors.Join(os.Mkdir(filepath.Dir(entry), 0o700), os.Symlink(path, entry)); err != nil {
		t.Fatal(err)
	}
	if got, _, err := findMapped(process, replaced); got != entry || err != nil {
		t.Errorf("findMapped() = %q, %v, want %q", got, err, entry)
	}
}

func TestFindMappedPipe(t *testing.T) {
	process := t.TempDir()
	path := filepath.Join(process, "root/pipe")
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	_, inode := deviceAndInode(info)
	if got, _, err := findMapped(process, mapping{inode: inode, path: "/pipe"}); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("findMapped() of a pipe = %q, %v", got, err)
	}
}

// TestFindThreadSlotOfReplacedLibrary replaces the library of a running program by one without the
// variable.
func TestFindThreadSlotOfReplacedLibrary(t *testing.T) {
	host := build(t, "host", "gcc", mainSource, "-pthread")
	shared := build(t, "libthread.so", "gcc", "-shared", "-fPIC", threadSource)
	pid, lines := start(t, exec.Command(host, shared))
	if err := errors.Join(os.Remove(shared), os.WriteFile(shared, []byte("new"), 0o600)); err != nil {
		t.Fatal(err)
	}
	slot, err := slotOf(pid, new(elfCache))
	if errors.Is(err, errNoThreadContext) && errors.Is(err, errReplaced) && os.Geteuid() != 0 {
		t.Skipf("this test needs CAP_CHECKPOINT_RESTORE: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var pointer, want uint64
	if _, err := fmt.Sscanf(lines[0], "%x %x", &pointer, &want); err != nil {
		t.Fatal(err)
	}
	if got, err := follow(slot, memoryOf(t, pid).file, pointer); got != want || err != nil {
		t.Errorf("%+v leads to %#x, %v, want %#x", slot, got, err, want)
	}
}

func TestELFCacheReadsOnce(t *testing.T) {
	process := t.TempDir()
	path := filepath.Join(process, "root/libthread.so")
	content, err := os.ReadFile("testdata/thread/amd64.so")
	if err := errors.Join(err, os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	id := identify(info)
	mapped := mapping{inode: id.inode, path: "/libthread.so"}
	cache := new(elfCache)
	first, err := cache.read(process, mapped)
	if first == nil || err != nil {
		t.Fatalf("read() = %v, %v", first, err)
	}
	if again, err := cache.read(process, mapped); again != first || err != nil {
		t.Errorf("read() = %p, %v, want what was read before, %p", again, err, first)
	}
	if err := os.WriteFile(path, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := cache.read(process, mapped); changed != nil || err != nil {
		t.Errorf("read() of the changed file = %v, %v, want none", changed, err)
	}
}

func TestELFCacheIsBounded(t *testing.T) {
	cache := new(elfCache)
	for inode := range uint64(maxFiles + 10) {
		cache.put(fileID{inode: inode}, nil)
	}
	if len(cache.variables) != maxFiles {
		t.Errorf("the cache has %d files, want %d", len(cache.variables), maxFiles)
	}
	if _, ok := cache.get(fileID{inode: maxFiles + 9}); !ok {
		t.Error("the cache does not have the last file")
	}
}
