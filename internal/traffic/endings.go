// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"slices"

	"github.com/seed-7756021b/nettap/internal/owner"
)

// maxEndings is the maximum number of processes, and of interfaces, whose end no consumer has
// taken: enough for an hour without a consumer, if one ends each second.
const maxEndings = 4096

// endings are the series that stop, until a consumer has taken their last points and the
// points that end them. What a consumer refuses is reported again.
type endings struct {
	identityOf func(owner.Process) identity
	refused    bool    // nobody took the report before
	leaving    []usage // have reported their last points
	resumed    []usage // likewise, and then their series began again
	gone       []usage // a consumer has taken their last points
	closing    []statement
	reopened   []statement // as resumed
	departed   []statement
	unended    uint64 // processes and interfaces that were given up
	lately     uint64 // of those, since the last complaint
}

// enter adds to a report what has to be reported again, and keeps what has its last points in
// this report. A series that another number continues does not end. The final report has both
// the last points of a series and its end; staying are then the usages that do not leave.
func (e *endings) enter(r *report, staying, leaving []usage, final bool) {
	again := e.without(e.leaving, r.processes)
	e.resumed = append(e.resumed, e.resume(e.leaving, r.processes)...)
	r.resumed = e.resumed
	r.processes = append(r.processes, again...)
	e.leaving = append(again, leaving...)
	e.gone = e.without(e.gone, r.processes)
	r.gone = slices.Clone(e.gone)
	if final {
		r.gone = append(r.gone, e.without(e.leaving, staying)...)
	}
	e.enterInterfaces(r, final)
	r.final = final
	e.bound()
}

// enterInterfaces does the same for interfaces. The last points of an interface are those in
// the previous report, if a consumer took it.
func (e *endings) enterInterfaces(r *report, final bool) {
	goesOn := slices.Concat(r.interfaces, r.departed)
	again := withoutRows(e.closing, goesOn)
	e.reopened = append(e.reopened, resumeRows(e.closing, goesOn)...)
	r.reopened = e.reopened
	if e.refused {
		again = append(again, r.departed...)
		r.departed = nil
	}
	r.interfaces = append(r.interfaces, again...)
	e.closing = again
	e.departed = append(withoutRows(e.departed, slices.Concat(r.interfaces, r.departed)), r.departed...)
	r.departed = e.departed
	if final {
		r.departed = slices.Concat(e.departed, e.closing)
	}
}

// reopen keeps the last points of interfaces that were in the previous report, if no consumer
// took it and other interfaces continue their series.
func (e *endings) reopen(saidBefore, others []statement) {
	if e.refused {
		e.reopened = append(e.reopened, resumeRows(saidBefore, others)...)
	}
}

// delivered says that a consumer has taken the last report.
func (e *endings) delivered() {
	e.gone, e.leaving, e.resumed = e.leaving, nil, nil
	e.departed, e.closing, e.reopened = e.closing, nil, nil
}

// bound gives up the oldest if there are too many.
func (e *endings) bound() {
	given := giveUp(len(e.gone)+len(e.leaving)-maxEndings, &e.gone) + giveUp(len(e.departed)+len(e.closing)-maxEndings, &e.departed)
	given += giveUp(len(e.gone)+len(e.leaving)-maxEndings, &e.leaving) + giveUp(len(e.departed)+len(e.closing)-maxEndings, &e.closing)
	given += giveUp(len(e.resumed)-maxEndings, &e.resumed) + giveUp(len(e.reopened)-maxEndings, &e.reopened)
	e.unended += uint64(given)
	e.lately += uint64(given)
}

// giveUp removes the oldest, and returns how many it has removed.
func giveUp[T any](tooMany int, oldest *[]T) int {
	tooMany = max(0, min(tooMany, len(*oldest)))
	if tooMany > 0 {
		*oldest = slices.Clone((*oldest)[tooMany:])
	}
	return tooMany
}

// takeComplaint returns an error that says how many ends were given up since the last call,
// and nil if none was.
func (e *endings) takeComplaint() error {
	if e.lately == 0 {
		return nil
	}
	e.lately = 0
	return fmt.Errorf("no consumer takes points: the series of %d processes and interfaces have stopped without an end", e.unended)
}
