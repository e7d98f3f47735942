package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// ReadBooks returns the counts that the kernel side keeps of its own work,
// summed over the CPUs and indexed by its enum book.
//
// Kernel side: map books in bpf/lib/books.h.
func ReadBooks(m *ebpf.Map) ([]uint64, error) {
	sums := make([]uint64, m.MaxEntries())
	for kind := range sums {
		var perCPU []uint64
		if err := m.Lookup(uint32(kind), &perCPU); err != nil {
			return nil, fmt.Errorf("read books: %w", err)
		}
		for _, count := range perCPU {
			sums[kind] += count
		}
	}
	return sums, nil
}
