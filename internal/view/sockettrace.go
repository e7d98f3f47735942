// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// socketTrace is the output of socket-trace.stp: a line when a function is entered and one when it
// returns, with the microseconds since the thread entered the first one. Unlike there, calls do
// not mix: each is written as a whole.
type socketTrace struct {
	view   *View
	params params
	last   string // the id of the last call that was written
}

func newSocketTrace(v *View, p params) writer { return &socketTrace{view: v, params: p} }

func (*socketTrace) ofEvents()               {}
func (*socketTrace) head() string            { return "" }
func (*socketTrace) tail() string            { return "" }
func (s *socketTrace) next(time.Time) string { return s.trees(0) }

func (s *socketTrace) past() string {
	if s.params.follow && s.params.n == 0 {
		s.skip()
		return ""
	}
	return s.trees(s.params.n)
}

func (s *socketTrace) skip() {
	if n := len(s.view.calls.all); n > 0 {
		s.last = s.view.calls.all[n-1].ID
	}
}

// trees returns the newest n calls since the previous call of this function.
func (s *socketTrace) trees(n int) string {
	selected := s.view.selected(s.params.filter)
	var fresh []*keptCall
	for _, c := range slices.Backward(s.view.calls.all) {
		if compareIDs(c.ID, s.last) <= 0 {
			break
		}
		if selected.call(&c.Call) {
			fresh = append(fresh, c)
		}
	}
	s.skip()
	slices.Reverse(fresh)
	fresh = newest(fresh, n)
	slices.SortStableFunc(fresh, s.compare)
	var b strings.Builder
	for _, c := range fresh {
		if s.params.wide {
			b.WriteString(s.about(c))
		}
		writeTree(&b, c, s.view.of(c.Process))
	}
	return b.String()
}

func (s *socketTrace) compare(a, b *keptCall) int {
	switch s.params.sort {
	case "duration":
		return cmp.Compare(b.DurationMS, a.DurationMS)
	case "command":
		return cmp.Compare(nameOf(a, s.view.of(a.Process)), nameOf(b, s.view.of(b.Process)))
	case "pid":
		return cmp.Compare(s.view.of(a.Process).PID, s.view.of(b.Process).PID)
	default:
		return 0
	}
}

// about returns a line that is written before a tree, with what the script does not know.
func (s *socketTrace) about(c *keptCall) string {
	p, at := s.view.of(c.Process), connectionOf(&c.Call)
	line := fmt.Sprintf("# %s %s pid %d uid %d %s", time.UnixMilli(int64(c.AtMS)).UTC().Format("2006-01-02T15:04:05.000Z"),
		orDash(c.Kept), p.PID, uidOf(p), orDash(c.Syscall))
	if c.Error != "" {
		line += " " + c.Error
	}
	line += fmt.Sprintf(" local %s peer %s cpu %.3f ms runnable %.3f ms blocked %.3f ms on %s",
		endText(at.local), endText(at.peer), c.CPUMS, c.RunnableMS, c.BlockedMS, orDash(c.BlockedOn))
	if c.Wait != nil {
		line += fmt.Sprintf(" wait %s peer %.3f ms local %.3f ms", orDash(c.Wait.Kind), c.Wait.PeerMS, c.Wait.LocalMS)
	}
	return line + fmt.Sprintf(" container %s service %s trace %s\n", orDash(short(p.Container)), orDash(p.Service), orDash(c.TraceID))
}

// endText returns an address and its port. A path, which is the address of a Unix socket, has none.
func endText(e End) string {
	if e.Port == 0 {
		return orDash(e.Address)
	}
	if strings.Contains(e.Address, ":") {
		return fmt.Sprintf("[%s]:%d", e.Address, e.Port)
	}
	return fmt.Sprintf("%s:%d", orDash(e.Address), e.Port)
}

// nameOf returns what the script prints for a thread, which is its name.
func nameOf(c *keptCall, p *process) string { return cmp.Or(c.ThreadName, p.Comm) }

// writeTree writes a call as the script does. A function is indented by one space more than its
// caller. Time off the CPU is no function, and is left out.
func writeTree(b *strings.Builder, c *keptCall, p *process) {
	who := fmt.Sprintf("%s(%d):", nameOf(c, p), c.Thread)
	depths := make([]int, len(c.nodes))
	var open []int // functions that have not returned
	leave := func(i int) {
		n := &c.nodes[i]
		fmt.Fprintf(b, "%6d %s%s <- %s\n", int64(n.StartUS+n.DurationUS), who, strings.Repeat(" ", depths[i]), n.Name)
	}
	for i := range c.nodes {
		n := &c.nodes[i]
		if n.Name == "off_cpu" {
			continue
		}
		for len(open) > 0 && open[len(open)-1] != n.Parent {
			leave(open[len(open)-1])
			open = open[:len(open)-1]
		}
		if n.Parent >= 0 {
			depths[i] = depths[n.Parent] + 1
		}
		fmt.Fprintf(b, "%6d %s%s -> %s\n", int64(n.StartUS), who, strings.Repeat(" ", depths[i]), n.Name)
		open = append(open, i)
	}
	for _, i := range slices.Backward(open) {
		leave(i)
	}
}
