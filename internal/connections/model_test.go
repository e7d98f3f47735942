// SPDX-License-Identifier: Apache-2.0

package connections

import "testing"

func TestErrorType(t *testing.T) {
	for failure, want := range map[bpfFailure]string{
		bpfFailureFAILURE_NONE: "", 111: "ECONNREFUSED", 110: "ETIMEDOUT", 600: "errno_600",
		bpfFailureFAILURE_GIVEN_UP: "given_up", bpfFailureFAILURE_UNKNOWN: "_OTHER",
	} {
		if got := errorType(failure); got != want {
			t.Errorf("errorType(%d) = %q, want %q", failure, got, want)
		}
	}
}

func TestBoundsGrow(t *testing.T) {
	micros := boundsMicros()
	for i := range micros {
		if i > 0 && micros[i] <= micros[i-1] {
			t.Errorf("bound %d is %d us, and the one before %d", i, micros[i], micros[i-1])
		}
	}
	if len(bpfTally{}.Ranges) != len(micros)+1 {
		t.Errorf("there are %d ranges and %d bounds", len(bpfTally{}.Ranges), len(micros))
	}
}
