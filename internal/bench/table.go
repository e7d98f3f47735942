package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
)

// off returns what the operations take with nothing attached.
func (m measured) off() map[string]float64 {
	for _, measure1 := range m.Measures {
		if measure1.Case == measure.Off {
			return measure1.Of
		}
	}
	return nil
}

// more returns what the operations take more than with nothing attached.
func (m measured) more(of measure.Measure) map[string]float64 {
	more := map[string]float64{}
	off := m.off()
	for _, operation := range measure.Operations {
		more[operation] = of.Of[operation] - off[operation]
	}
	return more
}

// empty returns what empty programs at the hooks of a measure take.
func (m measured) empty(of measure.Measure) (measure.Measure, bool) {
	for _, other := range m.Measures {
		if other.Empty && other.Case == of.Case && other.Rung == of.Rung {
			return other, true
		}
	}
	return measure.Measure{}, false
}

// table returns what operations take more, in that unit, for a terminal: beside each
// figure, what empty programs at the same hooks take.
func (m measured) table(unit string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s more than with nothing attached (and with empty programs at the same hooks)\n", m.Kernel, unit)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "case\thook\t%s\n", strings.Join(measure.Operations, "\t"))
	fmt.Fprint(w, "nothing attached\t")
	for _, operation := range measure.Operations {
		fmt.Fprintf(w, "\t%.0f", m.off()[operation])
	}
	fmt.Fprintln(w)
	for _, of := range m.Measures {
		if of.Case == measure.Off || of.Empty {
			continue
		}
		fmt.Fprintf(w, "%s\t%s", of.Case, of.Rung)
		more := m.more(of)
		empty, known := m.empty(of)
		floor := m.more(empty)
		for _, operation := range measure.Operations {
			fmt.Fprintf(w, "\t%.0f", more[operation])
			if known {
				fmt.Fprintf(w, " (%.0f)", floor[operation])
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return b.String()
}
