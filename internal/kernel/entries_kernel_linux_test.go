// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"maps"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// TestKernelEntries reads maps in which some of the hash's buckets have more than one entry.
func TestKernelEntries(t *testing.T) {
	const entries = 3000
	cpus := ebpf.MustPossibleCPU()
	for name, test := range map[string]struct {
		kind ebpf.MapType
		read func(m *ebpf.Map, visit func(uint32, []uint64)) error
	}{
		"a hash": {ebpf.Hash, func(m *ebpf.Map, visit func(uint32, []uint64)) error {
			return Each(m, func(key uint32, value uint64) { visit(key, []uint64{value}) })
		}},
		"a value for each CPU": {ebpf.PerCPUHash, EachPerCPU[uint32, uint64]},
		"a batch that holds less than a bucket": {ebpf.PerCPUHash, func(m *ebpf.Map, visit func(uint32, []uint64)) error {
			return eachBatch(m, 1, cpus, visit)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMap(t, &ebpf.MapSpec{Type: test.kind, KeySize: 4, ValueSize: 8, MaxEntries: entries})
			for key := range uint32(entries) {
				var value any = uint64(key)
				if test.kind == ebpf.PerCPUHash {
					value = each(cpus, key)
				}
				if err := m.Put(key, value); err != nil {
					t.Fatal(err)
				}
			}
			visits := make([]int, entries)
			err := test.read(m, func(key uint32, values []uint64) {
				visits[key]++
				for cpu, value := range values {
					if want := uint64(key) + uint64(cpu); value != want {
						t.Errorf("entry %d has %d on CPU %d, not %d", key, value, cpu, want)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			for key, n := range visits {
				if n != 1 {
					t.Errorf("entry %d was visited %d times", key, n)
				}
			}
		})
	}
}

// each returns a value for each CPU.
func each(cpus int, first uint32) []uint64 {
	values := make([]uint64, cpus)
	for cpu := range values {
		values[cpu] = uint64(first) + uint64(cpu)
	}
	return values
}

// TestKernelEntriesWithoutBatches reads a kind of map that cannot be read many entries at a time.
func TestKernelEntriesWithoutBatches(t *testing.T) {
	m := newMap(t, &ebpf.MapSpec{Type: ebpf.DevMapHash, KeySize: 4, ValueSize: 4, MaxEntries: 8})
	const lo = 1
	want := map[uint32]uint32{7: lo, 8: lo}
	for key, device := range want {
		if err := m.Put(key, device); err != nil {
			t.Fatal(err)
		}
	}
	if err := eachBatch(m, 8, 1, func(uint32, []uint32) {}); !errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("it can")
	}
	if got, err := ReadAll[uint32, uint32](m); err != nil || !maps.Equal(got, want) {
		t.Errorf("read %v and error %v, not %v", got, err, want)
	}
}

func newMap(t *testing.T, spec *ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	_ = rlimit.RemoveMemlock() // it matters before Linux 5.11
	m, err := ebpf.NewMap(spec)
	if errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}
