package drops

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// read returns all counts, and brings the books up to date with them.
func (d *Drops) read() (map[bpfDropKey]uint64, error) {
	counts := map[bpfDropKey]uint64{}
	limits := map[string]books.Map{}
	for _, name := range []string{"drops", "drops_without_detail"} {
		m := d.object.Maps[name]
		entries, err := addCounts(counts, m)
		if err != nil {
			return nil, err
		}
		limits[name] = books.Map{Entries: entries, Limit: int(m.MaxEntries())}
	}
	kinds, err := kernel.ReadBooks(d.object.Maps["books"])
	if err != nil {
		return nil, err
	}
	missed, err := kernel.MissedRuns(d.object.Programs[d.counting])
	if err != nil {
		return nil, err
	}
	var aggregated uint64
	for _, packets := range counts {
		aggregated += packets
	}
	d.books.Update(func(page *books.Page) {
		// Drops that came while the maps were read are seen, and in a series with the next Collect.
		page.Seen = kinds[bpfBookBOOK_SEEN] + missed
		page.Aggregated = aggregated
		page.Lost = map[string]uint64{"map_full": kinds[bpfBookBOOK_LOST_MAP_FULL], "recursion": missed}
		page.Maps = limits
	})
	return counts, nil
}

// addCounts adds each entry of m, summed over the CPUs, and returns how many there are.
func addCounts(counts map[bpfDropKey]uint64, m *ebpf.Map) (entries int, err error) {
	var key bpfDropKey
	var perCPU []uint64
	all := m.Iterate()
	for all.Next(&key, &perCPU) {
		entries++
		for _, count := range perCPU {
			counts[key] += count
		}
	}
	return entries, all.Err()
}

// takeExemplars returns, by key, what an application did when a packet of it was
// dropped since the last time.
func (d *Drops) takeExemplars() (map[bpfDropKey]exemplar, error) {
	if d.contexts == nil {
		return nil, nil
	}
	m := d.object.Maps["exemplars"]
	taken := map[bpfDropKey]exemplar{}
	var key bpfDropKey
	var value bpfExemplar
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		k := value.Context
		context, err := tracecontext.New(k.TraceId, k.SpanId, k.Source, k.Link, k.Sampled)
		if err != nil {
			return taken, fmt.Errorf("read exemplars: %w", err)
		}
		taken[key] = exemplar{context, value.TimeNs}
	}
	errs := entries.Err()
	for key := range taken {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = errors.Join(errs, err)
		}
	}
	if errs != nil {
		return taken, fmt.Errorf("read exemplars: %w", errs)
	}
	return taken, nil
}

// learnFunctions learns the names of locations met for the first time. Most are met
// soon after the start, so the table of symbols is kept for a while, for the kernel's
// own functions: modules come and go.
func (d *Drops) learnFunctions(counts map[bpfDropKey]uint64) error {
	unknown := map[uint64]bool{}
	for key := range counts {
		if _, known := d.words.functions[key.Location]; !known && key.Location != 0 {
			unknown[key.Location] = true
		}
	}
	if time.Since(d.symbolsRead) > keepSymbols {
		d.symbols = nil
	}
	if d.symbols != nil {
		for location := range unknown {
			if name, ok := d.symbols.OwnFunction(location); ok {
				d.words.functions[location] = dropper(name)
				delete(unknown, location)
			}
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	symbols, err := kernel.RunningSymbols()
	if err != nil {
		return err
	}
	d.symbols, d.symbolsRead = symbols, time.Now()
	for location := range unknown {
		name, _ := symbols.Function(location)
		d.words.functions[location] = dropper(name)
	}
	return nil
}

// dropper returns the function that drops, "" where the kernel names only its own means
// to: a compiler may put what tells of drops into a part of kfree_skb, whose caller is
// kfree_skb. Debian's 5.10 for arm64 is built so.
func dropper(function string) string {
	if function == "kfree_skb" {
		return ""
	}
	return function
}

// keepSymbols is how long the kernel's table of symbols, some 5 MB, serves new
// locations.
const keepSymbols = time.Minute
