// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// connections is the table of tcp_connections.stp, with a line for each accepted connection.
type connections struct {
	view   *View
	params params
	last   string // the id of the last connection that was written
}

func newConnections(v *View, p params) writer { return &connections{view: v, params: p} }

func (*connections) ofEvents() {}

func (c *connections) head() string {
	line := fmt.Sprintf("%6s %16s %6s %6s %16s", "UID", "CMD", "PID", "PORT", "IP_SOURCE")
	if c.params.wide {
		line += fmt.Sprintf(" %6s %24s %9s %-12s %-15s %-10s %s", "PEER", "TIME", "QUEUE_MS", "CONTAINER", "SERVICE", "VERDICT", "TRACE")
	}
	return line + "\n"
}

func (c *connections) tail() string          { return "" }
func (c *connections) next(time.Time) string { return c.lines(0) }

// past returns the connections that are kept. A reader that follows gets what comes from now on,
// as with the script, and the last n connections if it asks for them.
func (c *connections) past() string {
	if c.params.follow && c.params.n == 0 {
		c.skip()
		return ""
	}
	return c.lines(c.params.n)
}

func (c *connections) skip() {
	if n := len(c.view.accepts); n > 0 {
		c.last = c.view.accepts[n-1].ID
	}
}

// lines returns a line for each of the newest n connections since the previous call.
func (c *connections) lines(n int) string {
	selected := c.view.selected(c.params.filter)
	var fresh []Accept
	for _, a := range slices.Backward(c.view.accepts) {
		if compareIDs(a.ID, c.last) <= 0 {
			break
		}
		if selected.accept(&a) {
			fresh = append(fresh, a)
		}
	}
	c.skip()
	slices.Reverse(fresh)
	fresh = newest(fresh, n)
	slices.SortStableFunc(fresh, func(a, b Accept) int { return c.compare(&a, &b) })
	var b strings.Builder
	for i := range fresh {
		b.WriteString(c.line(&fresh[i]))
	}
	return b.String()
}

func (c *connections) compare(a, b *Accept) int {
	p, q := c.view.of(a.Process), c.view.of(b.Process)
	switch c.params.sort {
	case "uid":
		return cmp.Compare(uidOf(p), uidOf(q))
	case "cmd":
		return cmp.Compare(p.Comm, q.Comm)
	case "pid":
		return cmp.Compare(p.PID, q.PID)
	case "port":
		return cmp.Compare(a.Local.Port, b.Local.Port)
	case "source":
		return cmp.Compare(a.Peer.Address, b.Peer.Address)
	default:
		return 0
	}
}

func (c *connections) line(a *Accept) string {
	p := c.view.of(a.Process)
	line := fmt.Sprintf("%6d %16s %6d %6d %16s", uidOf(p), p.Comm, p.PID, a.Local.Port, expanded(a.Peer.Address))
	if c.params.wide {
		queue := "-"
		if a.QueueMS != nil {
			queue = fmt.Sprintf("%.3f", *a.QueueMS)
		}
		line += fmt.Sprintf(" %6d %24s %9s %-12s %-15s %-10s %s", a.Peer.Port, time.UnixMilli(a.AtMS).UTC().Format("2006-01-02T15:04:05.000Z"),
			queue, orDash(short(p.Container)), orDash(p.Service), orDash(a.Verdict), orDash(a.TraceID))
	}
	return line + "\n"
}

// expanded writes an IPv6 address with all its digits, as the script does.
func expanded(address string) string {
	parsed, err := netip.ParseAddr(address)
	if err != nil {
		return orDash(address)
	}
	return parsed.StringExpanded()
}

// compareIDs compares the ids of events, which are numbers.
func compareIDs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
