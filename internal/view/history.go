// SPDX-License-Identifier: Apache-2.0

package view

import "math"

// The view keeps the last 15 minutes in slots of 10 s, and the last minute also in slots of 1 s.
const (
	fineStep, fineSlots     = 1000, 60 // ms
	coarseStep, coarseSlots = 10_000, 90
)

// period is the time in which amounts were moved, in ms since 1970.
type period struct{ from, to int64 }

// longestFine is the longest period, in ms, whose amounts are entered into slots of 1 s.
const longestFine = 2500

func (p period) fine() bool { return p.to-p.from <= longestFine }

// scale is one of the two resolutions.
type scale struct {
	step  int64 // ms
	slots int
}

var (
	fine   = scale{fineStep, fineSlots}
	coarse = scale{coarseStep, coarseSlots}
)

// last returns the number of the slot that contains now, or ends with it.
func (s scale) last(now int64) int64 { return (now - 1) / s.step }

// first returns the number of the first slot that is shown.
func (s scale) first(now int64) int64 { return s.last(now) - int64(s.slots) + 1 }

// share returns which part of a period is in a slot.
func (s scale) share(p period, slot int64) float64 {
	from, to := max(p.from, slot*s.step), min(p.to, (slot+1)*s.step)
	return float64(to-from) / float64(p.to-p.from)
}

// history has what was moved lately, by slot, with some amounts for each. Its zero value is empty.
type history struct {
	fine, coarse ring
}

// ring has the slots of one scale, up to the last one that was written.
type ring struct {
	last    int64
	amounts []float32 // width amounts for each slot, at the slot's number modulo the number of slots
}

func (h *history) add(p period, amounts ...float64) {
	if p.to <= p.from {
		return
	}
	if p.fine() {
		h.fine.add(fine, p, amounts)
	}
	h.coarse.add(coarse, p, amounts)
}

func (r *ring) add(s scale, p period, amounts []float64) {
	if r.amounts == nil {
		r.amounts = make([]float32, s.slots*len(amounts))
		r.last = (p.to - 1) / s.step
	}
	last := (p.to - 1) / s.step
	for slot := max(p.from/s.step, last-int64(s.slots)+1); slot <= last; slot++ {
		r.advance(s, slot, len(amounts))
		if slot <= r.last-int64(s.slots) {
			continue // the clock was set
		}
		share, at := s.share(p, slot), int(slot%int64(s.slots))*len(amounts)
		for i, amount := range amounts {
			r.amounts[at+i] += float32(amount * share)
		}
	}
}

// advance empties the slots after the last one up to slot.
func (r *ring) advance(s scale, slot int64, width int) {
	for empty := max(r.last+1, slot-int64(s.slots)+1); empty <= slot; empty++ {
		at := int(empty%int64(s.slots)) * width
		clear(r.amounts[at : at+width])
	}
	r.last = max(r.last, slot)
}

// read returns one of the amounts in each slot up to now, or nil if all are 0. The amount of a
// slot in which no one looked is null.
func (h *history) read(s scale, now int64, which, width int, looked *looks) []number {
	r := &h.coarse
	if s == fine {
		r = &h.fine
	}
	if r.amounts == nil {
		return nil
	}
	first, any := s.first(now), false
	numbers := make([]number, s.slots)
	for i := range numbers {
		slot := first + int64(i)
		if looked != nil && !looked.at(s, slot) {
			numbers[i] = unknown
			continue
		}
		if slot > r.last || slot <= r.last-int64(s.slots) {
			continue
		}
		numbers[i] = number(math.Round(float64(r.amounts[int(slot%int64(s.slots))*width+which])))
		any = any || numbers[i] != 0
	}
	if !any {
		return nil
	}
	return numbers
}

// looks has the slots in which someone looked.
type looks struct{ fine, coarse [coarseSlots]int64 } // the slot's number + 1, at its number modulo coarseSlots

func (l *looks) add(p period) {
	if p.fine() {
		l.mark(&l.fine, fine, p)
	}
	l.mark(&l.coarse, coarse, p)
}

func (l *looks) mark(of *[coarseSlots]int64, s scale, p period) {
	last := (p.to - 1) / s.step
	for slot := max(p.from/s.step, last-coarseSlots+1); slot <= last; slot++ {
		of[slot%coarseSlots] = slot + 1
	}
}

func (l *looks) at(s scale, slot int64) bool {
	if s == fine {
		return l.fine[slot%coarseSlots] == slot+1
	}
	return l.coarse[slot%coarseSlots] == slot+1
}
