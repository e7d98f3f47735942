// SPDX-License-Identifier: Apache-2.0

package process

import (
	"container/list"
	"time"
)

const (
	// maxIdle is how many processes that are not held are remembered without checking whether
	// they live.
	maxIdle = 2048

	// looksPerNew is how many of the other processes are checked for each new one. It is more
	// than one, so that the number of dead ones decreases.
	looksPerNew = 2
)

// entry is a remembered process.
type entry struct {
	process Process
	holds   int
	place   *list.Element // in the list of idle entries; nil while it is held
}

// birth is what the identities of one process before and after an exec have in common.
type birth struct {
	startNanos uint64
	pid        uint32
}

func birthOf(id ID) birth { return birth{startNanos: id.StartNanos, pid: id.PID} }

// life is what is known of one process in all its identities.
type life struct {
	created    time.Time
	current    ID // the identity that was used last
	identities int
}

// lookUp returns what is remembered of id, and holds it if hold is set.
func (d *Directory) lookUp(id ID, hold bool) (Process, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[id]
	if !ok {
		return Process{}, false
	}
	d.use(known, hold)
	return known.process, true
}

// remember stores p and returns it as it is to be reported: with the start time that was reported
// for it before an exec.
func (d *Directory) remember(p Process, hold bool) Process {
	if p.PID == 0 {
		return p
	}
	p = d.add(p, hold)
	for _, id := range d.longUnused() {
		d.review(id, d.Alive(id)) // outside the lock, since Alive reads /proc
	}
	return p
}

func (d *Directory) add(p Process, hold bool) Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[p.ID]
	if !ok { // unless another goroutine has described it meanwhile
		known = &entry{process: p}
		known.process.Created = d.enterLife(p.ID)
		known.place = d.idle.PushBack(known)
		d.known[p.ID] = known
	}
	d.use(known, hold)
	return known.process
}

// enterLife adds an identity to its life, and returns when the life began.
func (d *Directory) enterLife(id ID) time.Time {
	l, ok := d.lives[birthOf(id)]
	if !ok {
		l = &life{created: d.created(id)}
		d.lives[birthOf(id)] = l
	}
	l.identities++
	return l.created
}

// use records that an entry is used now.
func (d *Directory) use(e *entry, hold bool) {
	d.lives[birthOf(e.process.ID)].current = e.process.ID
	switch {
	case hold:
		e.holds++
		if e.place != nil {
			d.idle.Remove(e.place)
			e.place = nil
		}
	case e.place != nil:
		d.idle.MoveToBack(e.place)
	}
}

// Release ends one [Directory.Hold] of id.
func (d *Directory) Release(id ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.known[id]
	if !ok || e.holds == 0 {
		return
	}
	if e.holds--; e.holds == 0 {
		e.place = d.idle.PushBack(e)
	}
}

// longUnused returns the identities that were used longest ago, if there are too many.
func (d *Directory) longUnused() []ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []ID
	for e := d.idle.Front(); e != nil && len(ids) < looksPerNew && d.idle.Len()-len(ids) > maxIdle; e = e.Next() {
		ids = append(ids, e.Value.(*entry).process.ID)
	}
	return ids
}

// review forgets a process that is not held if it is dead, or has another identity now. One that
// lives is reviewed again after all others.
func (d *Directory) review(id ID, alive bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.known[id]
	if !ok || e.place == nil {
		return // another goroutine has removed it
	}
	l := d.lives[birthOf(id)]
	if alive && l.current == id {
		d.idle.MoveToBack(e.place)
		return
	}
	d.idle.Remove(e.place)
	delete(d.known, id)
	if l.identities--; l.identities == 0 {
		delete(d.lives, birthOf(id))
	}
}
