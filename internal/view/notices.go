// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
)

// noticed are the events beside accepts that are kept, by their names in records.
var noticed = map[string]string{
	"nettap.connection.closed":  "closed",
	"nettap.connection.refused": "refused",
	"nettap.listener.closed":    "listener_closed",
	"nettap.listener.opened":    "listener_opened",
	"nettap.packet.dropped":     "dropped",
}

// notice keeps an event. p is nil if there is no room for its process.
func (v *View) notice(p *process, event string, record plog.LogRecord) {
	attributes := record.Attributes()
	n := Notice{
		ID: v.newEventID(), AtMS: v.timeOf(record), Event: event, Text: clean(record.Body().AsString()),
		Local: endOf(attributes, "network.local"), Peer: endOf(attributes, "network.peer"),
	}
	if event == "dropped" { // which side of a packet is ours is not known
		n.Local, n.Peer = endOf(attributes, "destination"), endOf(attributes, "source")
	}
	if p != nil && p != v.processes.none {
		n.Process = p.ID
		p.active = max(p.active, n.AtMS)
	}
	if event == "dropped" {
		v.keep(n, &v.packets, &v.fresh.packets, "packets")
		return
	}
	v.keep(n, &v.notices, &v.fresh.notices, "notices")
}

// keep appends an event to those of its kind, of which the oldest one may have to go.
func (v *View) keep(n Notice, all, fresh *[]Notice, kind string) {
	if len(*all) >= maxNotices {
		*all = (*all)[1:]
		v.leaveOut(kind)
	}
	*all = append(*all, n)
	if v.watchers > 0 {
		*fresh = append(*fresh, n)
	}
}

// timeOf returns when an event happened. It is not known of all of them, but of those it is known
// when they were read.
func (v *View) timeOf(record plog.LogRecord) int64 {
	if at := record.Timestamp(); at != 0 {
		return at.AsTime().UnixMilli()
	}
	if at := record.ObservedTimestamp(); at != 0 {
		return at.AsTime().UnixMilli()
	}
	return v.now()
}

// newest returns the newest n selected ones of some notices, the newest first, and how many others
// are selected.
func (s *selection) newest(notices []Notice, n int) (shown []Notice, leftOut int) {
	shown = []Notice{}
	for _, notice := range slices.Backward(notices) {
		switch {
		case !s.notice(&notice):
		case len(shown) >= n:
			leftOut++
		default:
			shown = append(shown, notice)
		}
	}
	return shown, leftOut
}

func (s *selection) notice(n *Notice) bool {
	return s.event(n.Process, connection{n.Local, n.Peer}, n.Event, n.Text)
}

// noticeTable is a table of what else happened to connections, or of single dropped packets. None of
// the scripts has it.
type noticeTable struct {
	view   *View
	params params
	of     *[]Notice
	last   string // the id of the last notice that was written
}

func newNotices(v *View, p params) writer { return &noticeTable{view: v, params: p, of: &v.notices} }
func newPackets(v *View, p params) writer { return &noticeTable{view: v, params: p, of: &v.packets} }

func (*noticeTable) ofEvents() {}

func (t *noticeTable) head() string {
	return fmt.Sprintf("%-24s %-15s%s %s\n", "TIME", "EVENT", t.more("PID", "CONTAINER", "SERVICE"), "WHAT")
}

// more returns the columns that a wide table has in addition. They come before the sentence, in
// which there are spaces.
func (t *noticeTable) more(pid, container, service string) string {
	if !t.params.wide {
		return ""
	}
	return fmt.Sprintf(" %6s %-12s %-15s", pid, container, service)
}

func (t *noticeTable) line(n *Notice) string {
	pid, container, service := "-", "", ""
	if p := t.view.of(n.Process); p.PID != 0 {
		pid, container, service = fmt.Sprint(p.PID), p.Container, p.Service
	}
	return fmt.Sprintf("%-24s %-15s%s %s\n", time.UnixMilli(n.AtMS).UTC().Format("2006-01-02T15:04:05.000Z"), n.Event,
		t.more(pid, orDash(short(container)), orDash(service)), n.Text)
}

func (*noticeTable) tail() string            { return "" }
func (t *noticeTable) next(time.Time) string { return t.lines(0) }

// past returns the notices that are kept, as [connections.past] does.
func (t *noticeTable) past() string {
	if t.params.follow && t.params.n == 0 {
		t.skip()
		return ""
	}
	return t.lines(t.params.n)
}

func (t *noticeTable) skip() {
	if n := len(*t.of); n > 0 {
		t.last = (*t.of)[n-1].ID
	}
}

// lines returns a line for each of the newest n notices since the previous call.
func (t *noticeTable) lines(n int) string {
	selected := t.view.selected(t.params.filter)
	var lines []string
	for _, notice := range slices.Backward(*t.of) {
		if compareIDs(notice.ID, t.last) <= 0 {
			break
		}
		if selected.notice(&notice) {
			lines = append(lines, t.line(&notice))
		}
	}
	t.skip()
	slices.Reverse(lines)
	return strings.Join(newest(lines, n), "")
}
