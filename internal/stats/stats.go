// SPDX-License-Identifier: Apache-2.0

// Package stats counts an instrument's own work, so that every event that it saw is either
// reported or counted as lost.
package stats

import (
	"maps"
	"slices"
	"sync"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// Counts has the number of events that an instrument saw since its start, and what became of them:
//
//	Seen = Exported + Aggregated + SampledOut + the sums of RateLimited and Lost
//
// Each is a number of events (packets, connections), and only grows.
type Counts struct {
	Seen       uint64
	Exported   uint64 // passed to the pipeline as items of their own
	Aggregated uint64 // counted into the series of a metric
	SampledOut uint64 // left out because the configuration says so
	// RateLimited are calls that were left out because of max_per_second, by the reason for
	// reporting them.
	RateLimited map[string]uint64
	Lost        map[string]uint64 // by cause, such as "ring_full"
}

// Map is how full a kernel map is.
type Map struct {
	Entries, Limit int
	Refused        uint64 // times that a network namespace which had used up its share was refused an entry
}

// Totals is everything that an instrument counts of its own work.
type Totals struct {
	Counts
	Copies         uint64 // traffic: deliveries of a packet after its first
	WithoutProcess uint64 // drops: packets of a process that are in none of its series
	Unmeasured     uint64 // calls: those sampled out that may have taken too long for that, at most
	CollectErrors  uint64 // readings that were not complete
	// MissedRuns is how often the kernel did not run a program, unless each such run is counted as
	// a lost event.
	MissedRuns uint64
	Scraped    uint64         // traffic, drops: points that were read
	Errored    uint64         // traffic, drops: what could not be read, each at least one point
	Maps       map[string]Map // by the map's name
	Hooks      []kernel.Hook  // in use
}

// Recorder has the latest Totals of one instrument. The instrument writes it at each Collect, and
// the Collector's metric reader reads it at any time.
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
