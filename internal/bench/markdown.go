// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
)

// shown is the kernel whose figures are shown completely.
const shown = "6.18 x86-64"

// headings are the names of the operations in a document.
var headings = map[string]string{
	measure.UDP:        "datagram",
	measure.TCP:        "TCP message",
	measure.Connection: "connection",
	measure.Drop:       "dropped datagram",
	measure.Getppid:    "`getppid`",
}

// caseNames are the names of cases in a document that differ from their own names.
var caseNames = map[string]string{measure.All: "the defaults", measure.Bpftrace: "a one-liner of bpftrace, which blames whatever runs"}

// nameOf returns what was measured, and the hook that was chosen from a ladder. For the default
// configuration it is that of calls.
func nameOf(of measure.Measure) string {
	name, ok := caseNames[of.Case]
	if !ok {
		name = "`" + of.Case + "`"
	}
	if of.Rung == "" {
		return name
	}
	if of.Case == measure.All {
		name += ", `calls`"
	}
	return name + " by `" + of.Rung + "`"
}

// markdown returns the record as tables of a document. It does not mention point releases of
// kernels; neither does the table of kernels.
func (r record) markdown() string {
	var b strings.Builder
	if m, ok := r.of(shown); ok {
		b.WriteString(m.byOperation("instructions, Linux " + shown))
		b.WriteString("\n")
	}
	if r.Nanos != nil {
		b.WriteString(r.Nanos.byOperation("nanoseconds on a machine with Linux " + release(r.Nanos.Kernel)))
		b.WriteString("\n")
	}
	b.WriteString(r.byKernel())
	return b.String()
}

// release returns a kernel's version without the point release and what its builder added.
func release(kernel string) string {
	numbers := strings.SplitN(kernel, ".", 3)
	return strings.Join(numbers[:min(2, len(numbers))], ".")
}

// byOperation returns a table of what each case takes with the hooks that are chosen by default.
func (m measured) byOperation(heading string) string {
	var b strings.Builder
	line := func(speed, first string, cells ...string) {
		row(&b, append([]string{first}, cells...)...)
		if m.isTime() {
			row(&b, speed)
		}
		b.WriteString("|\n")
	}
	var operations []string
	for _, operation := range measure.Operations {
		operations = append(operations, headings[operation])
	}
	line("speed left, of datagrams", heading, operations...)
	columns := 1 + len(operations)
	if m.isTime() {
		columns++
	}
	b.WriteString("|" + strings.Repeat(" --- |", columns) + "\n")
	line("1.00", "nothing attached", m.offCells()...)
	for _, of := range m.instruments() {
		if first, _ := m.chosen(of.Case); first.Rung == of.Rung {
			line(m.speedLeft(of), nameOf(of), m.cells(of)...)
		}
	}
	return b.String()
}

// byKernel returns a table of what a datagram takes by each way to attach an instrument. The
// oldest kernel comes first.
func (r record) byKernel() string {
	kernels := slices.SortedStableFunc(slices.Values(r.Kernels), func(a, b measured) int { return cmp.Compare(a.version(), b.version()) })
	var rows [][2]string // case and rung
	for _, m := range kernels {
		for _, of := range m.instruments() {
			if key := [2]string{of.Case, of.Rung}; !slices.Contains(rows, key) {
				rows = append(rows, key)
			}
		}
	}
	order := func(name string) int { return slices.Index(caseOrder, name) }
	slices.SortStableFunc(rows, func(a, b [2]string) int { return order(a[0]) - order(b[0]) })
	var b strings.Builder
	row(&b, "instructions for a datagram")
	for _, m := range kernels {
		row(&b, m.Title)
	}
	b.WriteString("|\n|" + strings.Repeat(" --- |", 1+len(kernels)) + "\n")
	for _, key := range rows {
		row(&b, nameOf(measure.Measure{Case: key[0], Rung: key[1]}))
		for _, m := range kernels {
			row(&b, m.cellOf(key[0], key[1]))
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// version returns a number that is higher for a later kernel.
func (m measured) version() (number int) {
	var major, minor int
	fmt.Sscanf(m.Kernel, "%d.%d", &major, &minor) //nolint:errcheck // a version without a number comes first
	return 1000*major + minor
}

// caseOrder is the order of the rows.
var caseOrder = []string{"traffic", "drops", "accepts", "calls", measure.All}

// cellOf returns what a datagram takes there, in bold if this is the default.
func (m measured) cellOf(name, rung string) string {
	of, ok := m.find(name, rung, false)
	if !ok {
		return "-"
	}
	cell := m.cells(of)[0]
	if first, _ := m.chosen(name); first.Rung == rung {
		more, floor, _ := strings.Cut(cell, " ")
		cell = strings.TrimSpace(fmt.Sprintf("**%s** %s", more, floor))
	}
	return cell
}

func row(b *strings.Builder, cells ...string) {
	for _, cell := range cells {
		fmt.Fprintf(b, "| %s ", cell)
	}
}
