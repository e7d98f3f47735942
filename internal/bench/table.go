// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
)

// off returns what the operations take with nothing attached.
func (m measured) off() map[string]float64 {
	off, _ := m.chosen(measure.Off)
	return off.Of
}

// more returns how much more the operations take than with nothing attached.
func (m measured) more(of measure.Measure) map[string]float64 {
	more := map[string]float64{}
	off := m.off()
	for _, operation := range measure.Operations {
		more[operation] = of.Of[operation] - off[operation]
	}
	return more
}

// find returns the measure of a case on a rung, or that of empty programs at its hooks.
func (m measured) find(name, rung string, empty bool) (measure.Measure, bool) {
	i := slices.IndexFunc(m.Measures, func(other measure.Measure) bool {
		return other.Case == name && other.Rung == rung && other.Empty == empty
	})
	if i < 0 {
		return measure.Measure{}, false
	}
	return m.Measures[i], true
}

// cells returns how much more each operation takes, each followed by what empty programs take.
func (m measured) cells(of measure.Measure) []string {
	more := m.more(of)
	empty, known := m.find(of.Case, of.Rung, true)
	floor := m.more(empty)
	var cells []string
	for _, operation := range measure.Operations {
		cell := thousands(more[operation])
		if known {
			cell += " (" + thousands(floor[operation]) + ")"
		}
		cells = append(cells, cell)
	}
	return cells
}

// speedLeft returns the speed of a loop that sends and receives datagrams as a part of its speed
// with nothing attached, followed by that with empty programs.
func (m measured) speedLeft(of measure.Measure) string {
	left := func(of measure.Measure) string { return fmt.Sprintf("%.2f", m.off()[measure.UDP]/of.Of[measure.UDP]) }
	if empty, known := m.find(of.Case, of.Rung, true); known {
		return left(of) + " (" + left(empty) + ")"
	}
	return left(of)
}

// offCells returns what each operation takes with nothing attached.
func (m measured) offCells() []string {
	var cells []string
	for _, operation := range measure.Operations {
		cells = append(cells, thousands(m.off()[operation]))
	}
	return cells
}

// instruments returns the measures of instruments, on their rungs.
func (m measured) instruments() []measure.Measure {
	return slices.DeleteFunc(slices.Clone(m.Measures), func(of measure.Measure) bool { return of.Case == measure.Off || of.Empty })
}

// thousands formats an integer as "1,234".
func thousands(x float64) string {
	digits := strconv.FormatFloat(math.Abs(x), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if x <= -0.5 {
		return "-" + digits
	}
	return digits
}

// isTime reports whether the figures are times, and not instructions.
func (m measured) isTime() bool { return m.Title == thisMachine }

// text returns the result as tables for a terminal, with the differences from the previous run.
func (r record) text(last record) string {
	var b strings.Builder
	for _, m := range r.Kernels {
		b.WriteString(m.text("instructions"))
		if before, ok := last.of(m.Title); ok {
			b.WriteString(m.changes(before))
		}
	}
	if r.Nanos != nil {
		b.WriteString(r.Nanos.text("nanoseconds"))
		if last.Nanos != nil {
			b.WriteString(r.Nanos.changes(*last.Nanos))
		}
	}
	return b.String()
}

func (m measured) text(unit string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s more than with nothing attached (and what empty programs at the same hooks take)\n", m.Kernel, unit)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(speed string, cells ...string) {
		if m.isTime() {
			cells = append(cells, speed)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	line("speed left, udp", append([]string{"case", "hook"}, measure.Operations...)...)
	line("1.00", append([]string{"nothing attached", ""}, m.offCells()...)...)
	for _, of := range m.instruments() {
		line(m.speedLeft(of), append([]string{of.Case, of.Rung}, m.cells(of)...)...)
	}
	w.Flush()
	return b.String()
}

// noted is the part by which a figure must differ from the previous run to be mentioned.
const noted = 0.01

// changes returns the figures that differ from those of another run, one line for each.
func (m measured) changes(before measured) string {
	var b strings.Builder
	for _, of := range m.instruments() {
		other, ok := before.find(of.Case, of.Rung, false)
		if !ok {
			continue
		}
		then, now := before.more(other), m.more(of)
		for _, operation := range measure.Operations {
			if difference := now[operation] - then[operation]; math.Abs(difference) > noted*then[operation]+accuracyOf(operation)*m.off()[operation] {
				fmt.Fprintf(&b, "since the last run: %s %s %s: %s, was %s (%+.0f%%)\n",
					of.Case, of.Rung, operation, thousands(now[operation]), thousands(then[operation]), 100*difference/then[operation])
			}
		}
	}
	return b.String()
}
