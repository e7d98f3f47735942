// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// nettop is the table of nettop.stp: what each process moved over each interface.
type nettop struct {
	view   *View
	params params
	before map[*row]amounts
}

// nettopRow is a line of the table. The script's key is PID, DEV, COMMAND and UID.
type nettopRow struct {
	nettopKey
	process *process
	amounts
}

type nettopKey struct {
	pid, uid     int64
	dev, command string
}

func newNettop(v *View, p params) writer {
	n := &nettop{view: v, params: p}
	n.note()
	return n
}

// note records what has moved until now.
func (n *nettop) note() {
	n.before = map[*row]amounts{}
	for _, p := range n.view.processes.byID {
		for _, r := range p.rows {
			n.before[r] = r.total
		}
	}
}

func (n *nettop) head() string {
	return "" // each table has its own
}

func (n *nettop) past() string { return n.columns() }

func (n *nettop) columns() string {
	line := fmt.Sprintf("%5s %5s %-12s %7s %7s %7s %7s %-15s", "PID", "UID", "DEV", "XMIT_PK", "RECV_PK", "XMIT_KB", "RECV_KB", "COMMAND")
	if n.params.wide {
		line += fmt.Sprintf(" %-15s %-12s %-36s %s", "EXECUTABLE", "CONTAINER", "POD", "SERVICE")
	}
	return line + "\n"
}

func (n *nettop) next(time.Time) string {
	var b strings.Builder
	for _, r := range limited(n.rows(), n.params.n) {
		b.WriteString(n.line(r))
	}
	n.note()
	b.WriteByte('\n')
	if n.params.follow {
		b.WriteString(n.columns()) // for the next table
	}
	return b.String()
}

func (n *nettop) line(r nettopRow) string {
	line := fmt.Sprintf("%5d %5d %-12s %7d %7d %7d %7d %-15s",
		r.pid, r.uid, r.dev, r.amounts[txPackets], r.amounts[rxPackets], r.amounts[txBytes]/1024, r.amounts[rxBytes]/1024, r.command)
	if n.params.wide {
		line += fmt.Sprintf(" %-15s %-12s %-36s %s", orDash(r.process.Executable), orDash(short(r.process.Container)), orDash(r.process.Pod), orDash(r.process.Service))
	}
	return line + "\n"
}

// rows returns what has moved since the previous call, in order.
func (n *nettop) rows() []nettopRow {
	selected, index := n.view.selected(n.params.filter), map[nettopKey]int{}
	var rows []nettopRow
	for _, p := range n.view.processes.byID {
		for _, r := range p.rows {
			moved := r.total.less(n.before[r])
			if moved == (amounts{}) || !selected.row(p, r.name) {
				continue
			}
			key := nettopKey{p.PID, uidOf(p), r.name, p.Comm}
			at, known := index[key]
			if !known {
				at = len(rows)
				index[key] = at
				rows = append(rows, nettopRow{nettopKey: key, process: p})
			}
			rows[at].add(moved)
		}
	}
	slices.SortFunc(rows, func(a, b nettopRow) int {
		return cmp.Or(a.compare(b, n.params.sort), cmp.Compare(a.pid, b.pid), cmp.Compare(a.dev, b.dev), cmp.Compare(a.command, b.command), cmp.Compare(a.uid, b.uid))
	})
	return rows
}

func (a amounts) less(b amounts) (rest amounts) {
	for i := range a {
		rest[i] = a[i] - min(a[i], b[i])
	}
	return rest
}

func (a nettopRow) compare(b nettopRow, by string) int {
	switch by {
	case "bytes":
		return cmp.Compare(b.bytes(), a.bytes())
	case "tx_bytes":
		return cmp.Compare(b.amounts[txBytes], a.amounts[txBytes])
	case "rx_bytes":
		return cmp.Compare(b.amounts[rxBytes], a.amounts[rxBytes])
	case "tx_packets":
		return cmp.Compare(b.amounts[txPackets], a.amounts[txPackets])
	case "rx_packets":
		return cmp.Compare(b.amounts[rxPackets], a.amounts[rxPackets])
	case "pid":
		return cmp.Compare(a.pid, b.pid)
	case "uid":
		return cmp.Compare(a.uid, b.uid)
	case "dev":
		return cmp.Compare(a.dev, b.dev)
	case "command":
		return cmp.Compare(a.command, b.command)
	default:
		return cmp.Compare(b.packets(), a.packets())
	}
}

func (n *nettop) tail() string { return "" }
