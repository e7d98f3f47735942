// Package books keeps an instrument's account of its own work, so that every
// event it saw is either reported or named as lost.
package books

import (
	"maps"
	"slices"
	"sync"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// Counts says what became of the events an instrument saw since its start:
//
//	Seen = Exported + Aggregated + SampledOut + the sum of Lost
//
// Each is a number of events (packets, connections), and only grows.
type Counts struct {
	Seen       uint64
	Exported   uint64            // handed to the pipeline as items of their own
	Aggregated uint64            // counted into a metric's series
	SampledOut uint64            // left out because the configuration says so
	Lost       map[string]uint64 // by cause, such as "ring_full"
}

// Map says how full a kernel map is.
type Map struct {
	Entries, Limit int
}

// Page is one instrument's whole account.
type Page struct {
	Counts
	Copies         uint64         // traffic: deliveries of a packet beyond its first
	WithoutProcess uint64         // drops: packets of a process that are in no series of it
	MissedRuns     uint64         // how often the kernel did not run a program, where not each is an event lost
	Maps           map[string]Map // by the map's name
	Hooks          []kernel.Hook  // in use
}

// Books holds the latest Page of one instrument. The instrument writes it at
// each Collect, the Collector's metric reader reads it at any time.
type Books struct {
	mu   sync.Mutex
	page Page
}

// Update changes the page while no one reads it.
func (b *Books) Update(change func(page *Page)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.page)
}

// Read returns a copy of the page.
func (b *Books) Read() Page {
	b.mu.Lock()
	defer b.mu.Unlock()
	page := b.page
	page.Lost = maps.Clone(page.Lost)
	page.Maps = maps.Clone(page.Maps)
	page.Hooks = slices.Clone(page.Hooks)
	return page
}
