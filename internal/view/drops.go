// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"maps"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// place is what distinguishes drops.
type place struct {
	symbol, reason, class, iface, transport, networkType string

	process           *process // nil: all packets, whichever process they belong to
	direction, victim string
}

// drop is what was dropped at one place.
type drop struct {
	Drop
	process  *process
	start    pcommon.Timestamp
	seen     int64
	now, was uint64
	moved    uint64 // since the last tick
	active   int64
	updated  int64
	history  history
}

// drops are all drops, or those of processes. Resets, and what counters of the kernel have beyond
// the drops, are counted in the same way.
type drops struct {
	view    *View
	clock   clock
	name    string    // for the report of what found no room
	gone    *[]string // receives the ids of those that are forgotten
	byPlace map[place]*drop
}

func (ds *drops) init(v *View, name string, gone *[]string) {
	ds.view, ds.name, ds.gone, ds.byPlace = v, name, gone, map[place]*drop{}
}

// enter adds a point of a reading. process is nil if the point is about all packets. symbol is what
// the point counts, if its attributes do not say it.
func (ds *drops) enter(p *process, symbol string, point pmetric.NumberDataPoint) {
	if point.Flags().NoRecordedValue() {
		return
	}
	at := place{process: p, symbol: symbol}
	for key, value := range point.Attributes().All() {
		switch key {
		case "code.function.name":
			at.symbol = value.Str()
		case "nettap.drop.reason":
			at.reason = value.Str()
		case "nettap.drop.class":
			at.class = value.Str()
		case "network.interface.name":
			at.iface = value.Str()
		case "network.transport":
			at.transport = value.Str()
		case "network.type":
			at.networkType = value.Str()
		case "network.io.direction":
			at.direction = value.Str()
		case "nettap.drop.victim":
			at.victim = value.Str()
		case "nettap.tcp.reset.reason", "error.type":
			at.reason = value.Str()
		case "nettap.drop.counter":
			at.symbol = value.Str()
		}
	}
	d := ds.find(at)
	if d == nil {
		return
	}
	if d.seen != ds.clock.seq {
		d.seen, d.now = ds.clock.seq, 0
		if point.StartTimestamp() != d.start {
			d.start, d.was = point.StartTimestamp(), 0
		}
	}
	d.now += uint64(max(0, point.IntValue()))
}

func (ds *drops) find(at place) *drop {
	if d, ok := ds.byPlace[at]; ok {
		return d
	}
	if len(ds.byPlace) >= maxDrops {
		ds.view.leaveOut(ds.name)
		return nil
	}
	d := &drop{updated: ds.view.seq, process: at.process, Drop: Drop{
		ID: ds.view.newID(), Symbol: clean(at.symbol), Reason: clean(at.reason), Class: clean(at.class),
		Interface: clean(at.iface), Transport: clean(at.transport), Type: clean(at.networkType),
		Direction: clean(at.direction), Victim: clean(at.victim),
	}}
	if at.process != nil {
		d.Process = at.process.ID
	}
	if ds.view.options.Explain != nil {
		d.Why, d.Advice = ds.view.options.Explain(at.reason, at.symbol, at.class)
	}
	ds.byPlace[at] = d
	return d
}

// settle ends a reading.
func (ds *drops) settle(at period) {
	for _, d := range ds.byPlace {
		if d.seen != ds.clock.seq || d.now <= d.was {
			continue
		}
		moved := d.now - d.was
		d.was = d.now
		d.Packets += moved
		d.moved += moved
		d.active = at.to
		if d.process != nil {
			d.process.active = at.to
		}
		d.history.add(at, float64(moved))
	}
}

func (ds *drops) prune(old int64) {
	for at, d := range ds.byPlace {
		if d.active < old && ds.clock.seq-d.seen > missing {
			delete(ds.byPlace, at)
			*ds.gone = append(*ds.gone, d.ID)
		}
	}
}

// sorted returns all drops, those with most packets first.
func (ds *drops) sorted() []*drop {
	return slices.SortedFunc(maps.Values(ds.byPlace), func(a, b *drop) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), compareTexts(a.Symbol, b.Symbol, a.Reason, b.Reason, a.ID, b.ID))
	})
}

// show returns the selected drops.
func (ds *drops) show(q question, selected *selection, now int64) []Drop {
	shown := []Drop{}
	for _, d := range ds.sorted() {
		if selected.drop(d) {
			shown = append(shown, d.show(q.scale, now, &ds.clock.looks))
		}
	}
	return shown
}

func (d *drop) show(s scale, now int64, looked *looks) Drop {
	shown := d.Drop
	shown.Packets -= d.moved // subtracted, to show the state at the last tick
	if series := d.history.read(s, now, 0, 1, looked); series != nil {
		shown.Series = &DropSeries{Packets: series}
	}
	return shown
}

// compareTexts compares the first pair whose texts differ.
func compareTexts(pairs ...string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		if c := cmp.Compare(pairs[i], pairs[i+1]); c != 0 {
			return c
		}
	}
	return 0
}
