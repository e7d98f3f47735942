package kerneltest

import (
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// PinOBIMap pins a map as OBI does, in a bpffs of the test's own, and returns it with
// its path. Its keys are a process's id and a thread's, its values a trace id and a
// span id.
func PinOBIMap(t *testing.T) (m *ebpf.Map, path string) {
	t.Helper()
	Require(t)
	path = filepath.Join(t.TempDir(), "traces_ctx_v1")
	if err := unix.Mount("bpffs", filepath.Dir(path), "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(filepath.Dir(path), 0); err != nil {
			t.Error(err)
		}
	})
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 8, ValueSize: 24, MaxEntries: 1 << 14})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.Pin(path); err != nil {
		t.Fatal(err)
	}
	return m, path
}
