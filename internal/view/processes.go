// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// amounts are what a process moves over an interface.
type amounts [4]uint64

// The indexes of amounts, in the order of the API.
const (
	txBytes = iota
	rxBytes
	txPackets
	rxPackets
)

func (a *amounts) add(b amounts) {
	for i := range a {
		a[i] += b[i]
	}
}

func (a amounts) packets() uint64 { return a[txPackets] + a[rxPackets] }
func (a amounts) bytes() uint64   { return a[txBytes] + a[rxBytes] }

// kin are processes that differ only in the time at which they were made.
type kin struct {
	pid, uid, euid   int64
	executable, comm string
}

// process is a process that the view knows.
type process struct {
	Process
	kin
	made    string // its creation time in the form in which it was delivered
	rows    []*row
	series  []series
	seen    int64 // number of the last reading that contained it; 0 for none
	active  int64 // ms since 1970, when it last did something
	updated int64 // number of the tick after which something other than amounts changed
}

// row is what a process moves over one interface.
type row struct {
	name    string
	total   amounts // since the view began
	moved   amounts // since the last tick
	active  int64
	history history
}

// series is one series that an instrument delivers. Several may belong to one row, if a process
// changes its identity or the series begin anew.
type series struct {
	row      *row
	start    pcommon.Timestamp
	seen     int64
	now, was amounts
	ended    bool
}

// processes are all processes that the view knows, by kin.
type processes struct {
	view  *View
	clock clock
	byPID map[int64][]*process
	byID  map[string]*process
	rows  int
	full  bool // a process found no room in the previous reading
	none  *process
}

func (ps *processes) init(v *View) {
	ps.view, ps.byPID, ps.byID = v, map[int64][]*process{}, map[string]*process{}
	ps.none = &process{Process: Process{ID: "0"}}
}

// sameProcess is by how many ms the creation times of one process may differ: they are computed
// from two clocks that are read at different moments.
const sameProcess = 50

// find returns the process of a resource, which may be new. It returns nil if there is no room for
// it.
func (ps *processes) find(resource pcommon.Resource) *process {
	var p Process
	k, made := kin{uid: -1, euid: -1}, ""
	for key, value := range resource.Attributes().All() {
		switch key {
		case "process.pid":
			k.pid = value.Int()
		case "process.real_user.id":
			k.uid = value.Int()
		case "process.user.id":
			k.euid = value.Int()
		case "process.executable.name":
			k.executable = value.Str()
		case "nettap.process.comm":
			k.comm = value.Str()
		case "process.creation.time":
			made = value.Str()
		case "container.id":
			p.Container = value.Str()
		case "k8s.pod.uid":
			p.Pod = value.Str()
		case "service.name":
			p.Service = value.Str()
		case "process.command_line":
			p.CommandLine = value.Str()
		}
	}
	if k.pid == 0 {
		return ps.none
	}
	for _, known := range ps.byPID[k.pid] {
		if known.made == made && known.kin == k { // the usual case
			ps.learn(known, p)
			return known
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, made); err == nil {
		p.StartedMS = t.UnixMilli()
	}
	for _, known := range ps.byPID[k.pid] {
		if d := known.StartedMS - p.StartedMS; known.kin == k && d >= -sameProcess && d <= sameProcess {
			ps.learn(known, p)
			return known
		}
	}
	return ps.meet(k, made, p)
}

// learn adds what is known of a process now and was not known before.
func (ps *processes) learn(known *process, now Process) {
	if now.CommandLine != "" && known.CommandLine == "" && ps.view.options.CommandLines {
		known.CommandLine, known.updated = withoutSecrets(clean(now.CommandLine)), ps.view.seq
	}
	// otherwise the process has not published its name
	if now.Service != "" && known.Service == "" && !strings.HasPrefix(now.Service, "unknown_service") {
		known.Service, known.updated = clean(now.Service), ps.view.seq
	}
	if now.Container != "" && known.Container == "" {
		known.Container, known.Pod, known.updated = clean(now.Container), clean(now.Pod), ps.view.seq
	}
}

func (ps *processes) meet(k kin, made string, p Process) *process {
	if len(ps.byID) >= maxProcesses && !ps.makeRoom() {
		ps.view.leaveOut("processes")
		ps.full = true
		return nil
	}
	fresh := &process{kin: k, made: made, updated: ps.view.seq, active: ps.view.now()}
	fresh.ID, fresh.PID, fresh.StartedMS = ps.view.newID(), k.pid, p.StartedMS
	fresh.Comm, fresh.Executable = clean(k.comm), clean(k.executable)
	if k.uid >= 0 {
		fresh.UID = &fresh.kin.uid
	}
	if k.euid >= 0 {
		fresh.EUID = &fresh.kin.euid
	}
	ps.learn(fresh, p)
	ps.byPID[k.pid] = append(ps.byPID[k.pid], fresh)
	ps.byID[fresh.ID] = fresh
	return fresh
}

// enter adds what a reading contains about one process.
func (ps *processes) enter(resource pmetric.ResourceMetrics) {
	p := ps.find(resource.Resource())
	if p == nil {
		return
	}
	seq := ps.clock.seq
	pointsOf(resource, func(metric string, point pmetric.NumberDataPoint) {
		which := 0
		switch metric {
		case "process.network.io":
			which = txBytes
		case "nettap.process.network.packet.count":
			which = txPackets
		default:
			return
		}
		name := ""
		for key, value := range point.Attributes().All() {
			switch {
			case key == "network.interface.name":
				name = clean(value.Str())
			case key == "network.io.direction" && value.Str() == "receive":
				which++
			}
		}
		s := ps.seriesOf(p, name, point.StartTimestamp())
		if s == nil {
			return
		}
		if s.seen != seq {
			s.seen, s.now, s.ended = seq, amounts{}, true
		}
		if !point.Flags().NoRecordedValue() {
			s.now[which] += uint64(max(0, point.IntValue()))
			s.ended = false
		}
	})
	p.seen = seq
}

func (ps *processes) seriesOf(p *process, name string, start pcommon.Timestamp) *series {
	for i := range p.series {
		if s := &p.series[i]; s.row.name == name && s.start == start {
			return s
		}
	}
	r := p.row(name)
	if r == nil {
		if ps.rows >= maxRows {
			ps.view.leaveOut("processes")
			return nil
		}
		ps.rows++
		r = &row{name: name}
		p.rows = append(p.rows, r)
	}
	p.series = append(p.series, series{row: r, start: start})
	s := &p.series[len(p.series)-1]
	if ps.full {
		s.was = unsettled // what it moved while there was no room for it is not known
	}
	return s
}

// unsettled means that the amounts are not known.
var unsettled = amounts{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}

func (p *process) row(name string) *row {
	for _, r := range p.rows {
		if r.name == name {
			return r
		}
	}
	return nil
}

// missing is in how many readings a series may be missing and still continue, since a reading may
// be incomplete.
const missing = 30

// settle ends a reading. What has grown was moved in its period, and series that it does not
// contain any more have ended.
func (ps *processes) settle(at period) {
	seq := ps.clock.seq
	for _, p := range ps.byID {
		if len(p.series) == 0 {
			continue
		}
		ended := true
		for i := range p.series {
			s := &p.series[i]
			if s.seen != seq {
				continue
			}
			ended = ended && s.ended
			if s.ended {
				continue
			}
			if moved := s.moved(); moved != (amounts{}) {
				s.row.add(at, moved)
				p.active = at.to
			}
		}
		p.series = slices.DeleteFunc(p.series, func(s series) bool { return s.ended || seq-s.seen > missing })
		ps.end(p, ended, at.to)
	}
	ps.full = ps.full && len(ps.byID) >= maxProcesses
}

func (s *series) moved() (moved amounts) {
	for i := range s.now {
		if s.was != unsettled && s.now[i] > s.was[i] {
			moved[i] = s.now[i] - s.was[i]
		}
	}
	s.was = s.now
	return moved
}

func (ps *processes) end(p *process, ended bool, now int64) {
	switch {
	case ended && p.EndedMS == 0:
		p.EndedMS, p.updated = now, ps.view.seq
	case !ended && p.EndedMS != 0:
		p.EndedMS, p.updated = 0, ps.view.seq
	}
}

func (r *row) add(at period, moved amounts) {
	r.total.add(moved)
	r.moved.add(moved)
	r.active = at.to
	r.history.add(at, float64(moved[0]), float64(moved[1]), float64(moved[2]), float64(moved[3]))
}

// prune forgets processes that have done nothing for long and are not delivered any more.
func (ps *processes) prune(old int64) {
	for _, p := range ps.byID {
		if p.active < old && (len(p.series) == 0 || p.EndedMS != 0) {
			ps.forget(p)
		}
	}
}

// makeRoom forgets some processes that have ended, those that ended longest ago first.
func (ps *processes) makeRoom() bool {
	var ended []*process
	for _, p := range ps.byID {
		if p.EndedMS != 0 {
			ended = append(ended, p)
		}
	}
	slices.SortFunc(ended, func(a, b *process) int { return cmp.Compare(a.active, b.active) })
	for _, p := range ended[:min(len(ended), 1+maxProcesses/20)] {
		ps.forget(p)
	}
	return len(ended) > 0
}

func (ps *processes) forget(p *process) {
	delete(ps.byID, p.ID)
	ps.byPID[p.PID] = slices.DeleteFunc(ps.byPID[p.PID], func(other *process) bool { return other == p })
	if len(ps.byPID[p.PID]) == 0 {
		delete(ps.byPID, p.PID)
	}
	ps.rows -= len(p.rows)
	ps.view.fresh.gone.Processes = append(ps.view.fresh.gone.Processes, p.ID)
}
