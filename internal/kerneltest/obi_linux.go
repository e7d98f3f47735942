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

// OBIMap is the form of the map that OBI pins: its keys are a process's id and a
// thread's, its values a trace id and a span id. It has types, as a map of an ELF file:
// up to Linux 6.1 a map with types and one without cannot have the same slot.
var OBIMap = ebpf.MapSpec{
	Type: ebpf.LRUHash, KeySize: 8, ValueSize: 24, MaxEntries: 1 << 14,
	Key: &btf.Int{Name: "thread", Size: 8}, Value: bytesOf(24),
}

func bytesOf(n uint32) btf.Type {
	return &btf.Array{Index: &btf.Int{Name: "index", Size: 4}, Type: &btf.Int{Name: "byte", Size: 1}, Nelems: n}
}

// WithValueSize returns the form with values of another size.
func WithValueSize(form ebpf.MapSpec, size uint32) ebpf.MapSpec {
	form.ValueSize, form.Value = size, bytesOf(size)
	return form
}

// OBIPath returns where OBI may pin a map, in a bpffs of the test's own.
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

// PinOBIMap pins a map of a form as OBI does when it starts, in place of one that is
// there.
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
