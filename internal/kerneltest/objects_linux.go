package kerneltest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Objects are the ids of BPF objects by kind: "map", "prog" and "link".
type Objects map[string][]uint32

var objectID = regexp.MustCompile(`(?m)^(map|prog|link)_id:\s*(\d+)$`)

// ObjectsOf returns the BPF objects that a process has open.
func ObjectsOf(t *testing.T, pid int) Objects {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	objects := Objects{}
	for _, entry := range entries {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, entry.Name()))
		if err != nil || !strings.HasPrefix(target, "anon_inode:bpf") {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		kind := strings.TrimLeft(strings.TrimPrefix(target, "anon_inode:bpf"), "-_")
		for _, found := range objectID.FindAllStringSubmatch(string(info), -1) {
			if found[1] != kind {
				continue // of a link: the program it links
			}
			id, err := strconv.ParseUint(found[2], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			objects[kind] = append(objects[kind], uint32(id))
		}
	}
	return objects
}

// AwaitGone waits until the kernel has freed the objects, which it does a little
// after their last user has gone; meanwhile is called between two looks.
func (o Objects) AwaitGone(t *testing.T, meanwhile func()) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for kind, ids := range o {
		for _, id := range ids {
			for exists(t, kind, id) {
				if time.Now().After(deadline) {
					t.Errorf("%s %d is still there", kind, id)
					break
				}
				meanwhile()
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
}

func exists(t *testing.T, kind string, id uint32) bool {
	t.Helper()
	found, err := find(kind, id)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatalf("look for %s %d: %v", kind, id, err)
	}
	if err := found.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}

func find(kind string, id uint32) (io.Closer, error) {
	switch kind {
	case "map":
		return ebpf.NewMapFromID(ebpf.MapID(id))
	case "prog":
		return ebpf.NewProgramFromID(ebpf.ProgramID(id))
	default:
		return link.NewFromID(link.ID(id))
	}
}
