// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// dropwatch is the table of dropwatch.stp: how many packets were dropped in which function.
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
	for _, drops := range []*drops{&d.view.drops, &d.view.losses, &d.view.resets, &d.view.unseen} {
		for _, one := range drops.byPlace {
			d.before[one] = one.Packets
		}
	}
}

func (d *dropwatch) head() string { return "Monitoring for dropped packets\n" }
func (d *dropwatch) past() string { return "" }
func (d *dropwatch) tail() string { return "Stopping dropped packet monitor\n" }

// dropKey is what a line is about: a place, and in a wide table the reason; or the process that
// lost something.
type dropKey struct{ symbol, detail string }

// dropLine is a line of the table.
type dropLine struct {
	dropKey
	packets uint64
}

func (d *dropwatch) next(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", now.UTC().Format(time.ANSIC))
	for _, line := range limited(d.lines(&d.view.drops, d.placeOf), d.params.n) {
		fmt.Fprintf(&b, "%d packets dropped at %s%s\n", line.packets, line.symbol, line.detail)
	}
	if d.params.wide {
		for _, line := range limited(d.lines(&d.view.losses, loserOf), d.params.n) {
			fmt.Fprintf(&b, "%d packets lost by %s%s\n", line.packets, line.symbol, line.detail)
		}
		for _, line := range limited(d.lines(&d.view.resets, resetterOf), d.params.n) {
			fmt.Fprintf(&b, "%d resets of %s%s\n", line.packets, line.symbol, line.detail)
		}
		for _, line := range limited(d.lines(&d.view.unseen, counterOf), d.params.n) {
			fmt.Fprintf(&b, "%d packets unseen in %s\n", line.packets, line.symbol)
		}
	}
	d.note()
	return b.String()
}

func (d *dropwatch) placeOf(one *drop) dropKey {
	at := dropKey{symbol: symbolOf(one)}
	if d.params.wide {
		at.detail = fmt.Sprintf(" %s %s %s %s %s", orDash(one.Reason), orDash(one.Class), orDash(one.Interface), orDash(one.Transport), orDash(one.Type))
	}
	return at
}

func loserOf(one *drop) dropKey {
	return dropKey{fmt.Sprint(one.process.PID, " ", orDash(one.process.Comm)), fmt.Sprintf(" %s %s %s %s %s", orDash(one.Reason),
		orDash(one.Class), orDash(one.Interface), orDash(one.Direction), orDash(one.Victim))}
}

func resetterOf(one *drop) dropKey {
	who := "- -"
	if one.process != nil {
		who = fmt.Sprint(one.process.PID, " ", orDash(one.process.Comm))
	}
	return dropKey{who, fmt.Sprintf(" %s %s", orDash(one.Direction), orDash(one.Reason))}
}

func counterOf(one *drop) dropKey { return dropKey{symbol: orDash(one.Symbol)} }

// lines sums up what was dropped since the previous table.
func (d *dropwatch) lines(drops *drops, keyOf func(*drop) dropKey) []dropLine {
	selected, sums := d.view.selected(d.params.filter), map[dropKey]uint64{}
	for _, one := range drops.byPlace {
		moved := one.Packets - d.before[one]
		if moved == 0 || !selected.drop(one) {
			continue
		}
		sums[keyOf(one)] += moved
	}
	lines := make([]dropLine, 0, len(sums))
	for at, packets := range sums {
		lines = append(lines, dropLine{at, packets})
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

// symbolOf returns the function that dropped a packet, or the reason if no function of the kernel
// did.
func symbolOf(d *drop) string {
	return orDash(cmp.Or(d.Symbol, d.Reason))
}
