// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// ReadCounts returns the counts that the kernel side keeps of its own work,
// summed over the CPUs and indexed by the enum that is the map's key.
//
// Kernel side: map stats in bpf/lib/program/stats.h, map context_counts in bpf/lib/context/context.h.
func ReadCounts(m *ebpf.Map) ([]uint64, error) {
	sums := make([]uint64, m.MaxEntries())
	for kind := range sums {
		var perCPU []uint64
		if err := m.Lookup(uint32(kind), &perCPU); err != nil {
			return nil, fmt.Errorf("read counts: %w", err)
		}
		for _, count := range perCPU {
			sums[kind] += count
		}
	}
	return sums, nil
}

// MissedRuns returns how often the kernel did not run one of the programs because it would have
// interrupted that same program. Kernels before 5.12 do not report this: the result is 0.
func MissedRuns(programs ...*ebpf.Program) (uint64, error) {
	var missed uint64
	for _, program := range programs {
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read statistics of %v: %w", program, err)
		}
		missed += stats.RecursionMisses
	}
	return missed, nil
}
