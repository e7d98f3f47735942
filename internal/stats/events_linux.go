// SPDX-License-Identifier: Apache-2.0

package stats

import (
	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// Events says how many events a part of an instrument saw, and how many of these were lost, by
// cause. MissedRuns is how often the kernel did not run a program because another run of it was
// interrupted on the same CPU. It is not known how many of those would have seen an event.
type Events struct{ Seen, RingFull, MapFull, Unreadable, MissedRuns uint64 }

// ReadEvents reads the counts of an object, which are in a map as [kernel.ReadCounts] reads it,
// and its missed runs. from picks the others from the counts, whose indexes are constants of the
// object.
func ReadEvents(object *kernel.Object, counts *ebpf.Map, from func(counts []uint64) Events) (Events, error) {
	read, err := kernel.ReadCounts(counts)
	if err != nil {
		return Events{}, err
	}
	missed, err := object.MissedRuns()
	if err != nil {
		return Events{}, err
	}
	events := from(read)
	events.MissedRuns = missed
	return events, nil
}
