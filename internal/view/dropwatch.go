package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// dropwatch is the table of dropwatch.stp: how many packets were dropped where.
type dropwatch struct {
	view   *View
	params params
	before map[*drop]uint64
}

func newDropwatch(v *View, p params) writer {
	d := &dropwatch{view: v, params: p}
	d.note()
	return d
}

func (d *dropwatch) note() {
	d.before = map[*drop]uint64{}
	for _, one := range d.view.drops.byPlace {
		d.before[one] = one.Packets
	}
}

func (d *dropwatch) head() string { return "Monitoring for dropped packets\n" }
func (d *dropwatch) past() string { return "" }
func (d *dropwatch) tail() string { return "Stopping dropped packet monitor\n" }

// dropLine is a line: all that was dropped at one place, or by one reason where it is wide.
type dropLine struct {
	symbol, detail string
	packets        uint64
}

func (d *dropwatch) next(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", now.UTC().Format(time.ANSIC))
	for _, line := range limited(d.lines(), d.params.n) {
		fmt.Fprintf(&b, "%d packets dropped at %s%s\n", line.packets, line.symbol, line.detail)
	}
	d.note()
	return b.String()
}

func (d *dropwatch) lines() []dropLine {
	type key struct{ symbol, detail string }
	selected, sums := d.view.selected(d.params.filter), map[key]uint64{}
	for _, one := range d.view.drops.byPlace {
		moved := one.Packets - d.before[one]
		if moved == 0 || !selected.drop(one) {
			continue
		}
		at := key{symbol: symbolOf(one)}
		if d.params.wide {
			at.detail = fmt.Sprintf(" %s %s %s %s %s", orDash(one.Reason), orDash(one.Class), orDash(one.Interface), orDash(one.Transport), orDash(one.Type))
		}
		sums[at] += moved
	}
	lines := make([]dropLine, 0, len(sums))
	for at, packets := range sums {
		lines = append(lines, dropLine{at.symbol, at.detail, packets})
	}
	slices.SortFunc(lines, func(a, b dropLine) int {
		byName := cmp.Or(cmp.Compare(a.symbol, b.symbol), cmp.Compare(a.detail, b.detail))
		if d.params.sort == "symbol" {
			return byName
		}
		return cmp.Or(cmp.Compare(b.packets, a.packets), byName)
	})
	return lines
}

// symbolOf is where a packet was dropped; where no function of the kernel did, why.
func symbolOf(d *drop) string {
	return orDash(cmp.Or(d.Symbol, d.Reason))
}
