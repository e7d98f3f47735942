// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"maps"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// listener is a process that accepted connections on a port.
type listener struct {
	Listener
	moved   [2]uint64 // connections, and how many of them were unexpected, since the last tick
	active  int64
	updated int64
	history history
}

type listenerKey struct {
	process string
	port    int
}

type listeners struct {
	view  *View
	byKey map[listenerKey]*listener
}

func (ls *listeners) init(v *View) { ls.view, ls.byKey = v, map[listenerKey]*listener{} }

// Accepts takes what the instruments accepts and drop_records have delivered.
func (v *View) Accepts(logs plog.Logs) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, resource := range logs.ResourceLogs().All() {
		p := v.processes.find(resource.Resource())
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if record.EventName() == "nettap.connection.accepted" {
					v.accept(p, record)
				} else if event := noticed[record.EventName()]; event != "" {
					v.notice(p, event, record)
				}
			}
		}
	}
	v.prune(v.now())
}

func (v *View) accept(p *process, record plog.LogRecord) {
	if p == nil {
		v.leaveOut("accepts")
		return
	}
	attributes := record.Attributes()
	a := Accept{
		ID: v.newEventID(), AtMS: record.Timestamp().AsTime().UnixMilli(), Process: p.ID,
		Thread: whole(attributes, "nettap.thread.id"),
		Local:  endOf(attributes, "network.local"), Peer: endOf(attributes, "network.peer"),
		Transport: text(attributes, "network.transport"), Type: text(attributes, "network.type"),
		QueueLength: wholeIfAny(attributes, "nettap.accept.queue.length"),
		QueueLimit:  wholeIfAny(attributes, "nettap.accept.queue.limit"),
		Verdict:     text(attributes, "nettap.policy.verdict"),
	}
	if ms, ok := seconds(attributes, "nettap.accept.queue.duration"); ok {
		a.QueueMS = &ms
	}
	if id := record.TraceID(); !id.IsEmpty() {
		a.TraceID = id.String()
	}
	p.active = max(p.active, a.AtMS)
	v.listeners.count(p, a)
	if len(v.accepts) >= maxAccepts {
		v.accepts = v.accepts[1:]
		v.leaveOut("accepts")
	}
	v.accepts = append(v.accepts, a)
	if v.watchers > 0 {
		v.fresh.accepts = append(v.fresh.accepts, a)
	}
}

func endOf(attributes pcommon.Map, name string) End {
	return End{Address: text(attributes, name+".address"), Port: int(whole(attributes, name+".port"))}
}

func (ls *listeners) count(p *process, a Accept) {
	key := listenerKey{p.ID, a.Local.Port}
	l, known := ls.byKey[key]
	if !known {
		if len(ls.byKey) >= maxListeners {
			ls.view.leaveOut("listeners")
			return
		}
		l = &listener{updated: ls.view.seq, Listener: Listener{ID: ls.view.newID(), Process: p.ID, Port: a.Local.Port}}
		ls.byKey[key] = l
	}
	l.Address = a.Local.Address
	l.Connections++
	l.moved[0]++
	if a.Verdict == "unexpected" {
		l.Unexpected++
		l.moved[1]++
	}
	l.active = max(l.active, a.AtMS)
	l.history.add(period{from: a.AtMS, to: a.AtMS + 1}, 1)
}

func (ls *listeners) prune(old int64) {
	for key, l := range ls.byKey {
		if l.active < old {
			delete(ls.byKey, key)
			ls.view.fresh.gone.Listeners = append(ls.view.fresh.gone.Listeners, l.ID)
		}
	}
}

func (ls *listeners) sorted() []*listener {
	return slices.SortedFunc(maps.Values(ls.byKey), func(a, b *listener) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Port, b.Port), cmp.Compare(a.ID, b.ID))
	})
}

func (l *listener) show(s scale, now int64) Listener {
	shown := l.Listener
	shown.Connections -= l.moved[0] // subtracted, to show the state at the last tick
	shown.Unexpected -= l.moved[1]
	if series := l.history.read(s, now, 0, 1, nil); series != nil {
		shown.Series = &ListenerSeries{Connections: series}
	}
	return shown
}
