// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"testing"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

func TestRosterKeepsOneOfWhatLooksTheSame(t *testing.T) {
	r := newRoster(process.NewDirectory(t.TempDir(), clock.New()), testBuilder(metadata.NewDefaultMetricsBuilderConfig()))
	of := func(pid, execID uint32, comm string) owner.Process {
		const beyondAll = 1 << 30 // no process has such a pid
		return owner.Process{ID: process.ID{PID: beyondAll + pid, StartNanos: 5, ExecID: execID}, Seen: process.Seen{Comm: comm}}
	}
	one := r.meet(1, of(7, 1, "a"))
	if again := r.meet(2, of(7, 2, "a")); again != one {
		t.Error("who executes its own program again is another victim")
	}
	if other := r.meet(3, of(7, 3, "b")); other == one {
		t.Error("who executes another program is the same victim")
	}
	if other := r.meet(4, of(8, 1, "a")); other == one {
		t.Error("another process is the same victim")
	}
	r.keepOnly([]drop{{loser: loser{victim: one}}})
	if len(r.byNumber) != 2 || r.byNumber[1] != one || r.byNumber[2] != one || len(r.held) != 2 {
		t.Errorf("it keeps %v and holds %v, want one victim in two numbers", r.byNumber, r.held)
	}
}
