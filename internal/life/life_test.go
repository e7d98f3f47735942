// SPDX-License-Identifier: Apache-2.0

package life

import (
	"slices"
	"testing"
)

// TestDeliver follows a series with two entries to its end, and one that gets another entry before.
func TestDeliver(t *testing.T) {
	type series struct{ Life }
	ends, goesOn := &series{}, &series{}
	all := map[string]*series{"ends": ends, "goes on": goesOn}
	states := []bool{}
	note := func() { states = append(states, ends.Ended(), goesOn.Ended()) }

	ends.Feed()
	ends.Feed()
	goesOn.Feed()
	ends.Leave()
	Deliver(all)
	note() // one entry is left
	ends.Leave()
	goesOn.Leave()
	note() // the last value has not been delivered
	goesOn.Feed()
	Deliver(all)
	note() // the last value was delivered
	if ends.Continues() || !goesOn.Continues() {
		t.Errorf("one of which the last value was delivered goes on: %v, one that was fed again: %v", ends.Continues(), goesOn.Continues())
	}
	Deliver(all)
	if want := []bool{false, false, false, false, true, false}; !slices.Equal(states, want) {
		t.Errorf("what has ended is %v, want %v", states, want)
	}
	if len(all) != 1 || all["goes on"] != goesOn {
		t.Errorf("%v are left, want the one that goes on", all)
	}
}
