// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"fmt"
	"testing"
)

// TestPeekingChangesNoDrops requires that what is published does not depend on whether somebody peeks between collections.
func TestPeekingChangesNoDrops(t *testing.T) {
	for seed := range uint64(30) {
		undisturbed, disturbed := published(t, seed, false), published(t, seed, true)
		for i := range undisturbed {
			requireDrops(t, fmt.Sprintf("seed %d, collection %d, with peeks", seed, i), disturbed[i], undisturbed[i]...)
		}
	}
}

// published simulates a random machine, and returns what each collection published of it.
func published(t *testing.T, seed uint64, peeks bool) (all [][]drop) {
	w := newWorld(t, seed)
	for range 100 {
		for range w.random.IntN(10) {
			w.live()
			if peeks { // as [Drops.Peek] does
				c := w.copy()
				c.enter(w.next, testWords())
				c.post(w.next, nil)
			}
		}
		w.survey()
		all = append(all, w.collect(0))
		for _, key := range w.forgettable(w.next) {
			delete(w.next.interfaces, key)
		}
		if w.random.IntN(4) != 0 { // else it is refused
			w.delivered()
		}
	}
	return all
}
