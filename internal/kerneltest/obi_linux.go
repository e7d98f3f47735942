// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// OBIMap is the form of the map that OBI pins: its keys are the ids of a process and a thread, its
// values a trace id and a span id. It has the same types as OBI's map: up to Linux 6.1 a map of
// structs and a map without types cannot be in the same slot.
var OBIMap = ebpf.MapSpec{
	Type: ebpf.LRUHash, KeySize: 8, ValueSize: 24, MaxEntries: 1 << 14,
	Key: &btf.Int{Name: "thread", Size: 8}, Value: structOf(24),
}

func structOf(bytes uint32) btf.Type {
	content := &btf.Array{Index: &btf.Int{Name: "index", Size: 4}, Type: &btf.Int{Name: "byte", Size: 1}, Nelems: bytes}
	return &btf.Struct{Name: "context", Size: bytes, Members: []btf.Member{{Name: "ids", Type: content}}}
}

// WithValueSize returns the form with another size of values.
func WithValueSize(form ebpf.MapSpec, size uint32) ebpf.MapSpec {
	form.ValueSize, form.Value = size, structOf(size)
	return form
}

// OBIPath returns a path at which a map can be pinned as OBI does, in a bpffs of the test's own.
func OBIPath(t *testing.T) string {
	t.Helper()
	Require(t)
	path := filepath.Join(t.TempDir(), "traces_ctx_v1")
	if err := unix.Mount("bpffs", filepath.Dir(path), "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(filepath.Dir(path), 0); err != nil {
			t.Error(err)
		}
	})
	return path
}

// PinOBIMap pins a map of a form as OBI does when it starts, in place of an earlier one.
func PinOBIMap(t testing.TB, path string, form ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&form)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := m.Pin(path); err != nil {
		t.Fatal(err)
	}
	return m
}
