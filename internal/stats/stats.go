// SPDX-License-Identifier: Apache-2.0

// Package stats counts what an instrument does itself, so that every event that it saw is
// either reported or named as lost.
package stats

import (
	"maps"
	"slices"
	"sync"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// Counts says what became of the events an instrument saw since its start:
//
//	Seen = Exported + Aggregated + SampledOut + the sums of RateLimited and Lost
//
// Each is a number of events (packets, connections), and only grows.
type Counts struct {
	Seen        uint64
	Exported    uint64            // handed to the pipeline as items of their own
	Aggregated  uint64            // counted into a metric's series
	SampledOut  uint64            // left out because the configuration says so
	RateLimited map[string]uint64 // calls: left out for max_per_second, by why they would be reported
	Lost        map[string]uint64 // by cause, such as "ring_full"
}

// Map says how full a kernel map is.
type Map struct {
	Entries, Limit int
	Refused        uint64 // times that a network namespace which had its part of it was refused an entry
}

// Totals are all that an instrument counts of its own work.
type Totals struct {
	Counts
	Copies         uint64         // traffic: deliveries of a packet beyond its first
	WithoutProcess uint64         // drops: packets of a process that are in no series of it
	CollectErrors  uint64         // readings that were incomplete
	MissedRuns     uint64         // how often the kernel did not run a program, where not each is an event lost
	Scraped        uint64         // traffic, drops: points that readings gave
	Errored        uint64         // traffic, drops: what readings could not give, each at least a point
	Maps           map[string]Map // by the map's name
	Hooks          []kernel.Hook  // in use
}

// Recorder holds the latest Totals of one instrument. The instrument writes it at
// each Collect, the Collector's metric reader reads it at any time.
type Recorder struct {
	mu     sync.Mutex
	totals Totals
}

// Update changes the totals while no one reads them.
func (b *Recorder) Update(change func(totals *Totals)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.totals)
}

// Read returns a copy of the totals.
func (b *Recorder) Read() Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	totals := b.totals
	totals.RateLimited = maps.Clone(totals.RateLimited)
	totals.Lost = maps.Clone(totals.Lost)
	totals.Maps = maps.Clone(totals.Maps)
	totals.Hooks = slices.Clone(totals.Hooks)
	return totals
}
