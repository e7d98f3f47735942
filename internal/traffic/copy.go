package traffic

import (
	"maps"
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
)

// copy returns a ledger that knows what l knows, and that shares with it nothing that
// either changes. What is said of processes is by faceOf.
func (l *ledger) copy(faceOf func(owner.Process) face) *ledger {
	c := *l
	c.faceOf = faceOf
	c.endings = l.endings.copy(faceOf)
	c.met = maps.Clone(l.met)
	c.processless = maps.Clone(l.processless)
	c.starts = maps.Clone(l.starts)
	c.firsts = maps.Clone(l.firsts)
	c.last = maps.Clone(l.last)
	c.departed = maps.Clone(l.departed)
	c.retired = maps.Clone(l.retired)
	c.interfaces = maps.Clone(l.interfaces)
	c.units = maps.Clone(l.units)
	c.unclaimed = maps.Clone(l.unclaimed)
	c.moved = maps.Clone(l.moved)
	c.closed = maps.Clone(l.closed)
	c.born = maps.Clone(l.born)
	c.spoken = maps.Clone(l.spoken) // a statement is never changed
	c.renamed = maps.Clone(l.renamed)
	c.relearned = maps.Clone(l.relearned)
	c.rowsBefore = maps.Clone(l.rowsBefore)
	c.begun = maps.Clone(l.begun)
	c.inherited = maps.Clone(l.inherited)
	c.ended = maps.Clone(l.ended)
	c.ending = slices.Clone(l.ending)

	c.baseline = make(map[bpfInterfaceKey]*baseline, len(l.baseline))
	for key, base := range l.baseline {
		other := *base
		c.baseline[key] = &other
	}
	c.booksBefore = make(map[bpfInterfaceKey]sheet, len(l.booksBefore))
	for key, before := range l.booksBefore {
		c.booksBefore[key] = before.copy()
	}
	return &c
}

func (sh sheet) copy() sheet {
	c := make(sheet, len(sh))
	for account, counts := range sh {
		other := *counts
		c[account] = &other
	}
	return c
}

func (e *endings) copy(faceOf func(owner.Process) face) endings {
	c := *e
	c.faceOf = faceOf
	c.leaving, c.resumed, c.gone = slices.Clone(e.leaving), slices.Clone(e.resumed), slices.Clone(e.gone)
	c.closing, c.reopened, c.departed = slices.Clone(e.closing), slices.Clone(e.reopened), slices.Clone(e.departed)
	return c
}
