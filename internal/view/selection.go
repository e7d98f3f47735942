// SPDX-License-Identifier: Apache-2.0

package view

// selection is a filter applied to the present state of a view.
type selection struct {
	filter
	view *View
	ends map[string][]connection // by process, if the filter asks for ports or peers
}

// connection is what is known of a connection that a process had.
type connection struct{ local, peer End }

// selected returns the selection of a filter. The view must not change while it is used.
func (v *View) selected(f filter) *selection {
	s := &selection{filter: f, view: v}
	if !f.has("port", "peer") {
		return s
	}
	s.ends = map[string][]connection{}
	for _, a := range v.accepts {
		s.ends[a.Process] = append(s.ends[a.Process], connection{a.Local, a.Peer})
	}
	for _, l := range v.listeners.byKey {
		s.ends[l.Process] = append(s.ends[l.Process], connection{local: End{Port: l.Port}})
	}
	for _, c := range v.calls.all {
		s.ends[c.Process] = append(s.ends[c.Process], connectionOf(&c.Call))
	}
	return s
}

func connectionOf(c *Call) (of connection) {
	if c.Local != nil {
		of.local = *c.Local
	}
	if c.Peer != nil {
		of.peer = *c.Peer
	}
	return of
}

// process reports whether a process is shown at all.
func (s *selection) process(p *process) bool {
	return s.all(func(t *term) bool {
		switch t.kind {
		case "iface":
			for _, r := range p.rows {
				if t.isOf(r.name) {
					return true
				}
			}
			return false
		case "port", "peer":
			return s.connected(p, t)
		default:
			return t.ofProcess(p)
		}
	})
}

// row reports whether what a process moved on an interface is shown.
func (s *selection) row(p *process, name string) bool {
	return s.all(func(t *term) bool {
		switch t.kind {
		case "iface":
			return t.isOf(name)
		case "port", "peer":
			return s.connected(p, t)
		case "":
			return t.ofProcess(p) || t.isIn(name)
		default:
			return t.ofProcess(p)
		}
	})
}

// connected reports whether a process had a matching connection, as far as this is known.
func (s *selection) connected(p *process, t *term) bool {
	for _, c := range s.ends[p.ID] {
		if t.kind == "port" && t.isPort(c.local, c.peer) || t.kind == "peer" && t.isPeer(c.peer) {
			return true
		}
	}
	return false
}

// drop reports whether a drop is shown. Drops of all packets belong to no process.
func (s *selection) drop(d *drop) bool {
	return s.all(func(t *term) bool {
		switch t.kind {
		case "":
			return t.isIn(d.Symbol, d.Reason, d.Class, d.Interface, d.Transport) || d.process != nil && t.ofProcess(d.process)
		case "iface":
			return t.isOf(d.Interface)
		case "port", "peer":
			return d.process != nil && s.connected(d.process, t)
		default:
			return d.process != nil && t.ofProcess(d.process)
		}
	})
}

func (s *selection) listener(l *listener) bool {
	return s.event(l.Process, connection{local: End{Address: l.Address, Port: l.Port}})
}

func (s *selection) accept(a *Accept) bool { return s.event(a.Process, connection{a.Local, a.Peer}) }

func (s *selection) call(c *Call) bool { return s.event(c.Process, connectionOf(c), c.Name, c.Error) }

// event reports whether an event of a process on a connection is shown. Events belong to no
// interface.
func (s *selection) event(id string, c connection, texts ...string) bool {
	if len(s.terms) == 0 {
		return true
	}
	p := s.view.processes.get(id)
	return s.all(func(t *term) bool {
		switch t.kind {
		case "iface":
			return false
		case "port":
			return t.isPort(c.local, c.peer)
		case "peer":
			return t.isPeer(c.peer)
		case "":
			return t.ofProcess(p) || t.isIn(c.local.Address, c.peer.Address) || t.isIn(texts...)
		default:
			return t.ofProcess(p)
		}
	})
}

// get returns a process, or nil if it was forgotten.
func (ps *processes) get(id string) *process {
	if p, ok := ps.byID[id]; ok {
		return p
	}
	return ps.none
}
