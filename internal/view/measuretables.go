// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// measureTable is a table of what was measured until now. It is the same for each interval: its
// instruments are read at those of the pipelines.
type measureTable struct {
	view   *View
	params params
	format func(*measureTable) (head string, lines []string)
}

func measureTableOf(format func(*measureTable) (head string, lines []string)) func(*View, params) writer {
	return func(v *View, p params) writer { return &measureTable{v, p, format} }
}

func (*measureTable) ofEvents()    {}
func (*measureTable) head() string { return "" }
func (*measureTable) tail() string { return "" }
func (t *measureTable) past() string {
	head, lines := t.format(t)
	return head + strings.Join(limited(lines, t.params.n), "")
}
func (t *measureTable) next(time.Time) string { return "\n" + t.past() }

// more returns the columns that a wide table has beyond the others.
func (t *measureTable) more(p *process) string {
	if !t.params.wide {
		return ""
	}
	return fmt.Sprintf(" %-12s %s", orDash(short(p.Container)), orDash(p.Service))
}

func (t *measureTable) headOf(columns string) string {
	if t.params.wide {
		columns += fmt.Sprintf(" %-12s %s", "CONTAINER", "SERVICE")
	}
	return columns + "\n"
}

// deedsOf is what a process did with connections.
type deedsOf struct {
	process                       *process
	connects, failed, retransmits uint64
	errors                        map[string]uint64
}

// deedsByProcess sums up the selected deeds, those of processes with most failures first.
func (t *measureTable) deedsByProcess() []*deedsOf {
	selected, sums := t.view.selected(t.params.filter), map[*process]*deedsOf{}
	for _, one := range t.view.deeds.byPlace {
		if !selected.drop(one) {
			continue
		}
		sum := sums[one.process]
		if sum == nil {
			sum = &deedsOf{process: one.process, errors: map[string]uint64{}}
			sums[one.process] = sum
		}
		switch {
		case one.Symbol == retransmitDeed:
			sum.retransmits += one.Packets
		case one.Reason == "":
			sum.connects += one.Packets
		default:
			sum.failed += one.Packets
			sum.errors[one.Reason] += one.Packets
		}
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b *deedsOf) int {
		return cmp.Or(cmp.Compare(b.failed, a.failed), cmp.Compare(b.retransmits, a.retransmits), cmp.Compare(b.connects, a.connects),
			cmp.Compare(a.process.PID, b.process.PID), cmp.Compare(a.process.ID, b.process.ID))
	})
}

// tcpTable has a line for each process: how its connections began, and what it sent again.
func tcpTable(t *measureTable) (head string, lines []string) {
	for _, d := range t.deedsByProcess() {
		var errors []string
		for _, name := range slices.Sorted(maps.Keys(d.errors)) {
			errors = append(errors, fmt.Sprintf("%s=%d", orDash(name), d.errors[name]))
		}
		lines = append(lines, fmt.Sprintf("%5d %5d %8d %8d %8d %-24s %-15s%s\n", d.process.PID, uidOf(d.process), d.connects, d.failed,
			d.retransmits, cmp.Or(strings.Join(errors, ","), "-"), d.process.Comm, t.more(d.process)))
	}
	return t.headOf(fmt.Sprintf("%5s %5s %8s %8s %8s %-24s %-15s", "PID", "UID", "CONNECTS", "FAILED", "RETRANS", "ERRORS", "COMMAND")), lines
}

// queueTable has a line for each listener, the fullest first.
func queueTable(t *measureTable) (head string, lines []string) {
	queues, _ := t.view.measures.show(t.view.selected(t.params.filter))
	slices.SortStableFunc(queues, func(a, b Queue) int {
		return cmp.Or(cmp.Compare(b.Length, a.Length), cmp.Compare(a.Local.Port, b.Local.Port), cmp.Compare(a.Socket, b.Socket))
	})
	for _, q := range queues {
		p := t.view.of(q.Process)
		lines = append(lines, fmt.Sprintf("%5d %5d %6d %7d %7d %-24s %-15s%s\n", p.PID, uidOf(p), q.Local.Port, q.Length, q.Limit, orDash(q.Local.Address), p.Comm, t.more(p)))
	}
	return t.headOf(fmt.Sprintf("%5s %5s %6s %7s %7s %-24s %-15s", "PID", "UID", "PORT", "WAITING", "LIMIT", "ADDRESS", "COMMAND")), lines
}

// durationTable has a line for each distribution, the longest first.
func durationTable(t *measureTable) (head string, lines []string) {
	_, durations := t.view.measures.show(t.view.selected(t.params.filter))
	slices.SortStableFunc(durations, func(a, b Duration) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(b.MeanMS, a.MeanMS))
	})
	for _, d := range durations {
		p, most, port := t.view.of(d.Process), "-", "-"
		if d.MostMS != nil {
			most = fmt.Sprint(*d.MostMS)
		}
		if n := cmp.Or(d.Local.Port, d.Peer.Port); n != 0 {
			port = fmt.Sprint(n)
		}
		lines = append(lines, fmt.Sprintf("%5d %5d %-10s %-6s %6s %8d %10.3f %8s %-15s%s\n", p.PID, uidOf(p), d.Kind, orDash(d.Part), port, d.Count, d.MeanMS, most, p.Comm, t.more(p)))
	}
	return t.headOf(fmt.Sprintf("%5s %5s %-10s %-6s %6s %8s %10s %8s %-15s", "PID", "UID", "KIND", "OF", "PORT", "COUNT", "MEAN_MS", "P99_MS", "COMMAND")), lines
}
