// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"slices"
)

// question is what a reader asks for.
type question struct {
	scale  scale
	filter filter
	n      int // the maximum number of processes, accepts and calls; 0 for the usual number
}

// usualEvents is how many accepts and calls an answer has unless another number is given.
const usualEvents = 500

// state answers a question. The view must be locked.
func (v *View) state(q question) *State {
	now, selected := v.now(), v.selected(q.filter)
	s := &State{
		Version: 1, Instance: v.options.Instance, Seq: v.seq, AtMS: now, StartedMS: v.started,
		Receiver: v.receiver, Host: Host{Name: v.options.Host, ID: v.hostID},
		TraceURL: v.options.TraceURL, CommandLines: v.options.CommandLines,
		Slots: Slots{
			FirstMS: q.scale.first(now) * q.scale.step, StepS: int(q.scale.step / 1000), Count: q.scale.slots,
			LastS: float64(now-q.scale.last(now)*q.scale.step) / 1000,
		},
		Processes: []Process{}, Interfaces: []Interface{}, Listeners: []Listener{}, Accepts: []Accept{}, Calls: []Call{},
		Health: v.health(),
	}
	v.stateOfProcesses(s, q, selected, now)
	for _, b := range v.interfaces.sorted() {
		s.Interfaces = append(s.Interfaces, b.show(q.scale, now, &v.processes.clock.looks))
	}
	s.Drops, s.Losses = v.drops.show(q, selected, now), v.losses.show(q, selected, now)
	for _, l := range v.listeners.sorted() {
		if selected.listener(l) {
			s.Listeners = append(s.Listeners, l.show(q.scale, now))
		}
	}
	s.Resets, s.Unseen = v.resets.show(q, selected, now), v.unseen.show(q, selected, now)
	s.Deeds = v.deeds.show(q, selected, now)
	s.Queues, s.Durations = v.measures.show(selected)
	limit := cmp.Or(q.n, usualEvents)
	s.Notices, s.NoticesLeftOut = selected.newest(v.notices, limit)
	s.Packets, s.PacketsLeftOut = selected.newest(v.packets, limit)
	for _, a := range slices.Backward(v.accepts) {
		switch {
		case !selected.accept(&a):
		case len(s.Accepts) >= limit:
			s.AcceptsLeftOut++
		default:
			s.Accepts = append(s.Accepts, a)
		}
	}
	for _, c := range slices.Backward(v.calls.all) {
		switch {
		case !selected.call(&c.Call):
		case len(s.Calls) >= limit:
			s.CallsLeftOut++
		default:
			s.Calls = append(s.Calls, c.Call)
		}
	}
	return s
}

func (v *View) stateOfProcesses(s *State, q question, selected *selection, now int64) {
	all := make([]*process, 0, len(v.processes.byID)+1)
	for _, p := range v.processes.byID {
		if selected.process(p) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *process) int {
		return cmp.Or(cmp.Compare(b.total().bytes(), a.total().bytes()), cmp.Compare(a.PID, b.PID), cmp.Compare(a.ID, b.ID))
	})
	if q.n > 0 && len(all) > q.n {
		s.ProcessesLeftOut = len(all) - q.n
		all = all[:q.n]
	}
	for _, p := range all {
		s.Processes = append(s.Processes, p.show(q.scale, now, &v.processes.clock.looks))
	}
}

func (p *process) total() (total amounts) {
	for _, r := range p.rows {
		total.add(r.total)
	}
	return total
}

// ticked returns what had been moved at the last tick. What came since is in the next increment.
func (r *row) ticked() (total amounts) {
	for i := range total {
		total[i] = r.total[i] - r.moved[i]
	}
	return total
}

// show returns a process with what it moved.
func (p *process) show(s scale, now int64, looked *looks) Process {
	shown := p.Process
	for _, r := range p.rows {
		total := r.ticked()
		one := ProcessInterface{
			Interface: r.name, TxBytes: total[txBytes], RxBytes: total[rxBytes], TxPackets: total[txPackets], RxPackets: total[rxPackets],
		}
		if now-r.active <= s.step*int64(s.slots+1) {
			series := ProcessSeries{
				TxBytes: r.history.read(s, now, txBytes, 4, looked), RxBytes: r.history.read(s, now, rxBytes, 4, looked),
				TxPackets: r.history.read(s, now, txPackets, 4, looked), RxPackets: r.history.read(s, now, rxPackets, 4, looked),
			}
			if series.TxPackets != nil || series.RxPackets != nil {
				one.Series = &series
			}
		}
		shown.Interfaces = append(shown.Interfaces, one)
	}
	return shown
}

// callWithTree returns a call by its id.
func (v *View) callWithTree(id string) (Call, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.calls.all {
		if c.ID == id {
			whole := c.Call
			whole.Nodes = c.nodes
			return whole, true
		}
	}
	return Call{}, false
}
