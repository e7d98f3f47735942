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
}

// notice keeps an event. p is nil if there is no room for its process.
func (v *View) notice(p *process, event string, record plog.LogRecord) {
	attributes := record.Attributes()
	n := Notice{
		ID: v.newEventID(), AtMS: v.timeOf(record), Event: event, Text: clean(record.Body().AsString()),
		Local: endOf(attributes, "network.local"), Peer: endOf(attributes, "network.peer"),
	}
	if p != nil && p != v.processes.none {
		n.Process = p.ID
		p.active = max(p.active, n.AtMS)
	}
	if len(v.notices) >= maxNotices {
		v.notices = v.notices[1:]
		v.leaveOut("notices")
	}
	v.notices = append(v.notices, n)
	if v.watchers > 0 {
		v.fresh.notices = append(v.fresh.notices, n)
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

// noticeTable is a table of what else happened to connections. None of the scripts has it.
type noticeTable struct {
	view   *View
	params params
	last   string // the id of the last notice that was written
}

func newNotices(v *View, p params) writer { return &noticeTable{view: v, params: p} }

func (*noticeTable) ofEvents() {}

func (*noticeTable) head() string {
	return fmt.Sprintf("%-24s %-15s %s\n", "TIME", "EVENT", "WHAT")
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
	if n := len(t.view.notices); n > 0 {
		t.last = t.view.notices[n-1].ID
	}
}

// lines returns a line for each of the newest n notices since the previous call.
func (t *noticeTable) lines(n int) string {
	selected := t.view.selected(t.params.filter)
	var lines []string
	for _, notice := range slices.Backward(t.view.notices) {
		if compareIDs(notice.ID, t.last) <= 0 {
			break
		}
		if selected.notice(&notice) {
			lines = append(lines, fmt.Sprintf("%-24s %-15s %s\n", time.UnixMilli(notice.AtMS).UTC().Format("2006-01-02T15:04:05.000Z"), notice.Event, notice.Text))
		}
	}
	t.skip()
	slices.Reverse(lines)
	return strings.Join(newest(lines, n), "")
}
