// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Objects are the ids of BPF objects by their kind: "map", "prog" and "link".
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
				continue // of a link: the program that it links
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

// AwaitGone waits until the kernel has freed the objects, which happens a little after their last
// user has gone. meanwhile is called between two attempts.
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

// Fill takes every free entry of a hash map, with meaningless keys and values of zeros.
func Fill(t *testing.T, m *ebpf.Map) {
	t.Helper()
	if m.Type() == ebpf.Array {
		fillArray(t, m)
		return
	}
	var zeros any = make([]byte, m.ValueSize())
	if m.Type() == ebpf.PerCPUHash {
		value := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
		zeros = reflect.MakeSlice(reflect.SliceOf(value), ebpf.MustPossibleCPU(), ebpf.MustPossibleCPU()).Interface()
	}
	key := make([]byte, m.KeySize())
	deadline := time.Now().Add(time.Minute)
	for i := uint32(1); i <= m.MaxEntries(); {
		binary.NativeEndian.PutUint32(key, i)
		err := m.Update(key, zeros, ebpf.UpdateNoExist)
		switch {
		case err == nil:
			i++
		case errors.Is(err, unix.E2BIG):
			return
		case errors.Is(err, unix.ENOMEM) && time.Now().Before(deadline):
			time.Sleep(time.Millisecond) // the kernel is allocating entries
		default:
			t.Fatalf("fill %v: %v", m, err)
		}
	}
}

// fillArray takes the free cells of the CPUs, whose first word is 0.
func fillArray(t *testing.T, m *ebpf.Map) {
	t.Helper()
	const size = 64 // of a cell
	memory, err := m.Memory()
	if err != nil {
		t.Fatalf("map the memory of %v: %v", m, err)
	}
	var number [8]byte
	for at := int64(0); at < int64(m.ValueSize()); at += size {
		_, err := memory.ReadAt(number[:], at)
		if err == nil && number == [8]byte{} {
			_, err = memory.WriteAt(bytes.Repeat([]byte{0xff}, len(number)), at)
		}
		if err != nil {
			t.Fatalf("fill %v: %v", m, err)
		}
	}
}

// Fill is the function [Fill] for the map with a name, of which the kernel keeps 15 characters.
func (o Objects) Fill(t *testing.T, name string) {
	t.Helper()
	for _, id := range o["map"] {
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			t.Fatalf("open map %d: %v", id, err)
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			t.Fatalf("ask map %d: %v", id, err)
		}
		if info.Name == name[:min(len(name), 15)] {
			Fill(t, m)
			return
		}
	}
	t.Fatalf("no map %s among %v", name, o["map"])
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
