// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"

	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// TestIdentityIsWhatTheResourceShows requires that an identity consists of exactly what the resource shows.
func TestIdentityIsWhatTheResourceShows(t *testing.T) {
	gone := owner.Process{ID: process.ID{PID: 1 << 22, StartNanos: 1, ExecID: 1}, Seen: process.Seen{Comm: "a", Executable: "a"}}
	for name, test := range map[string]struct {
		change func(p *owner.Process)
		hide   func(c *metadata.ResourceAttributesConfig)
		want   bool // it looks the same
	}{
		"it has executed its own program":  {change: func(*owner.Process) {}, want: true},
		"it has executed another program":  {change: func(p *owner.Process) { p.Seen.Executable = "b" }},
		"it has another name":              {change: func(p *owner.Process) { p.Seen.Comm = "b" }},
		"it has become another user":       {change: func(p *owner.Process) { p.ID.UserID = 33 }},
		"it is another process":            {change: func(p *owner.Process) { p.ID.StartNanos = 2 }},
		"it has another name, not shown":   {func(p *owner.Process) { p.Seen.Comm = "b" }, func(c *metadata.ResourceAttributesConfig) { c.NettapProcessComm.Enabled = false }, true},
		"it is another process, not shown": {func(p *owner.Process) { p.ID.StartNanos = 2 }, func(c *metadata.ResourceAttributesConfig) { c.ProcessCreationTime.Enabled = false }, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := metadata.NewDefaultMetricsBuilderConfig()
			if test.hide != nil {
				test.hide(&config.ResourceAttributes)
			}
			builder := metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
			r := newRoster(process.NewDirectory("", clock.New()), builder)
			later := gone
			later.ID.ExecID = 2
			test.change(&later)
			if same := r.identityOf(gone) == r.identityOf(later); same != test.want {
				t.Errorf("it looks the same: %v", same)
			}
		})
	}
}

func TestRosterKeepsWhoLivesAndWhoIsSpokenOf(t *testing.T) {
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	r := newRoster(process.NewDirectory("", clock.New()), builder)
	processes := map[uint64]owner.Process{}
	for number := range uint64(5) {
		processes[number] = owner.Process{ID: process.ID{PID: 1<<22 + uint32(number)}, Alive: number < 2}
		r.identityOf(processes[number])
	}

	r.meet(processes)
	for _, said := range []owner.Process{processes[2], processes[3]} {
		r.speak(said.ID, said.Seen)
	}
	r.dismiss()
	if _, kept := r.members[processes[4].ID]; kept || len(r.members) != 4 {
		t.Errorf("%d processes are held, want 4 without the last", len(r.members))
	}
	r.meet(processes)
	r.dismiss()
	if len(r.members) != 2 {
		t.Errorf("%d processes are held, want the 2 that live", len(r.members))
	}
	r.meet(map[uint64]owner.Process{1: processes[1]})
	r.dismiss()
	if _, kept := r.members[processes[1].ID]; !kept || len(r.members) != 1 {
		t.Errorf("%d processes are held, want the one that still lives", len(r.members))
	}
	r.close()
	if len(r.members) != 0 {
		t.Errorf("%d processes are held at the end", len(r.members))
	}
}
