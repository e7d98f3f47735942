// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"testing"

	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

func TestRosterKeepsOneOfWhatLooksTheSame(t *testing.T) {
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	r := NewRoster(process.NewDirectory(t.TempDir(), clock.New()), builder)
	of := func(pid, execID uint32, comm string) Process {
		const beyondAll = 1 << 30 // no process has such a pid
		return Process{ID: process.ID{PID: beyondAll + pid, StartNanos: 5, ExecID: execID}, Seen: process.Seen{Comm: comm}}
	}
	one := r.Meet(1, of(7, 1, "a"))
	if again := r.Meet(2, of(7, 2, "a")); again != one {
		t.Error("who executes its own program again is another member")
	}
	if other := r.Meet(3, of(7, 3, "b")); other == one {
		t.Error("who executes another program is the same member")
	}
	if other := r.Meet(4, of(8, 1, "a")); other == one {
		t.Error("another process is the same member")
	}
	r.KeepOnly(map[*Member]bool{one: true})
	if len(r.byNumber) != 2 || r.byNumber[1] != one || r.byNumber[2] != one || len(r.held) != 2 {
		t.Errorf("it keeps %v and holds %v, want one member in two numbers", r.byNumber, r.held)
	}
}
