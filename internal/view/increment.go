// SPDX-License-Identifier: Apache-2.0

package view

import "slices"

// incrementEvents is the maximum number of accepts and of calls in an increment.
const incrementEvents = 50

// increment returns what happened between the last two ticks. The view must be locked.
func (v *View) increment(f filter) *Increment {
	selected, last := v.selected(f), &v.last
	i := &Increment{Seq: v.seq, AtMS: last.until, SpanS: float64(last.until-last.since) / 1000, Health: v.health()}
	v.news(i, selected)
	for _, m := range last.moved {
		if selected.row(m.of, m.name) {
			i.Moved = append(i.Moved, []any{m.of.ID, m.name, m.amounts[txBytes], m.amounts[rxBytes], m.amounts[txPackets], m.amounts[rxPackets]})
		}
	}
	for _, b := range last.booked {
		i.Booked = append(i.Booked, []any{b.of.ID, b.way, b.name, b.amount[0], b.amount[1]})
	}
	i.Dropped, i.Lost = selected.dropped(last.dropped), selected.dropped(last.lost)
	i.Reset, i.Overlooked = selected.dropped(last.reset), selected.dropped(last.overlooked)
	i.Done = selected.dropped(last.done)
	for _, a := range last.accepted {
		if selected.listener(a.listener) {
			i.Accepted = append(i.Accepted, []any{a.ID, a.connections[0], a.connections[1]})
		}
	}
	for at := len(last.accepts) - 1; at >= 0; at-- {
		switch {
		case !selected.accept(&last.accepts[at]):
		case len(i.Accepts) >= incrementEvents:
			i.AcceptsLeftOut++
		default:
			i.Accepts = append(i.Accepts, last.accepts[at])
		}
	}
	i.Notices, i.NoticesLeftOut = selected.newest(last.notices, incrementEvents)
	if len(last.packets) > 0 {
		i.Packets, i.PacketsLeftOut = selected.newest(last.packets, incrementEvents)
	}
	for at := len(last.calls) - 1; at >= 0; at-- {
		switch {
		case !selected.call(&last.calls[at].Call):
		case len(i.Calls) >= incrementEvents:
			i.CallsLeftOut++
		default:
			i.Calls = append(i.Calls, last.calls[at].Call)
		}
	}
	if len(f.terms) > 0 {
		v.introduce(i)
	}
	if g := last.gone; len(g.Processes)+len(g.Interfaces)+len(g.Drops)+len(g.Losses)+len(g.Resets)+len(g.Unseen)+len(g.Deeds)+len(g.Listeners) > 0 {
		i.Gone = &g
	}
	return i
}

// news adds what has changed since the last tick but one.
func (v *View) news(i *Increment, selected *selection) {
	since := v.seq - 1
	for _, p := range v.processes.byID {
		if p.updated >= since && selected.process(p) {
			i.Processes = append(i.Processes, p.Process)
		}
	}
	for _, b := range v.interfaces.byDevice {
		if b.updated >= since {
			i.Interfaces = append(i.Interfaces, b.Interface)
		}
	}
	i.Drops, i.Losses = v.drops.news(since, selected), v.losses.news(since, selected)
	i.Resets, i.Unseen = v.resets.news(since, selected), v.unseen.news(since, selected)
	i.Deeds = v.deeds.news(since, selected)
	i.Queues, i.Durations = v.measures.news(selected, since)
	for _, l := range v.listeners.byKey {
		if l.updated >= since && selected.listener(l) {
			shown := l.Listener
			shown.Connections, shown.Unexpected = 0, 0
			i.Listeners = append(i.Listeners, shown)
		}
	}
}

// news returns the drops that are newer than since, without their packets.
func (ds *drops) news(since int64, selected *selection) (all []Drop) {
	for _, d := range ds.byPlace {
		if d.updated >= since && selected.drop(d) {
			shown := d.Drop
			shown.Packets = 0
			all = append(all, shown)
		}
	}
	return all
}

func (s *selection) dropped(packets []droppedPackets) (all [][]any) {
	for _, d := range packets {
		if s.drop(d.at) {
			all = append(all, []any{d.at.ID, d.packets})
		}
	}
	return all
}

// introduce adds the processes that an increment refers to. A process may match a filter only
// since it has a connection.
func (v *View) introduce(i *Increment) {
	known := map[string]bool{}
	for _, p := range i.Processes {
		known[p.ID] = true
	}
	add := func(id string) {
		if p, ok := v.processes.byID[id]; ok && !known[id] {
			known[id] = true
			i.Processes = append(i.Processes, p.Process)
		}
	}
	for _, m := range i.Moved {
		add(m[0].(string))
	}
	for _, d := range slices.Concat(i.Losses, i.Resets, i.Deeds) {
		add(d.Process)
	}
	if i.Queues != nil {
		for _, q := range *i.Queues {
			add(q.Process)
		}
	}
	if i.Durations != nil {
		for _, d := range *i.Durations {
			add(d.Process)
		}
	}
	for _, a := range i.Accepts {
		add(a.Process)
	}
	for _, c := range i.Calls {
		add(c.Process)
	}
}
