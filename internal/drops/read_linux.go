package drops

import (
	"errors"
	"fmt"
	"os"

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

// learnFunctions learns the names of locations met for the first time. The
// kernel's table of symbols is 10 MB of text and new locations are rare, so it
// is read for them alone: then it also has the modules loaded since.
func (d *Drops) learnFunctions(counts map[bpfDropKey]uint64) error {
	var unknown []uint64
	for key := range counts {
		if _, known := d.words.functions[key.Location]; !known && key.Location != 0 {
			unknown = append(unknown, key.Location)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		return err
	}
	defer file.Close()
	symbols, err := kernel.ReadSymbols(file)
	if err != nil {
		return err
	}
	for _, location := range unknown {
		name, _ := symbols.Function(location)
		d.words.functions[location] = name
	}
	return nil
}
