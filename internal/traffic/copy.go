// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"maps"
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
)

// copy returns a ledger with the same content, which shares nothing with l that either of them
// changes. identityOf returns the identities of processes.
func (l *ledger) copy(identityOf func(owner.Process) identity) *ledger {
	c := *l
	c.workspace = new(workspace)
	c.identityOf = identityOf
	c.endings = l.endings.copy(identityOf)
	c.met = maps.Clone(l.met)
	c.processless = maps.Clone(l.processless)
	c.interfaces = copied(l.interfaces) // the values that they refer to are replaced and never changed
	c.numbers = copied(l.numbers)       // likewise
	c.series = copied(l.series)
	for _, n := range c.numbers {
		n.series = nil // it is the original's
	}
	for _, series := range c.series {
		series.begun = maps.Clone(series.begun)
	}
	c.firsts = maps.Clone(l.firsts)
	c.rows = maps.Clone(l.rows)
	c.ending = slices.Clone(l.ending)
	return &c
}

// copied returns a map with copies of the values, which are made in one allocation.
func copied[K comparable, V any](all map[K]*V) map[K]*V {
	copies, values := make(map[K]*V, len(all)), make([]V, 0, len(all))
	for key, value := range all {
		values = append(values, *value)
		copies[key] = &values[len(values)-1]
	}
	return copies
}

func (b bookings) copy() bookings {
	c := make(bookings, len(b))
	for account, counts := range b {
		other := *counts
		c[account] = &other
	}
	return c
}

func (e *endings) copy(identityOf func(owner.Process) identity) endings {
	c := *e
	c.identityOf = identityOf
	c.leaving, c.resumed, c.gone = slices.Clone(e.leaving), slices.Clone(e.resumed), slices.Clone(e.gone)
	c.closing, c.reopened, c.departed = slices.Clone(e.closing), slices.Clone(e.reopened), slices.Clone(e.departed)
	return c
}
