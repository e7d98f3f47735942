// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"cmp"
	"fmt"
	"maps"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

// Member is a process that something is said of, as it is shown. What becomes of a process
// by an exec or a change of its user that nothing shows is the same member.
type Member struct {
	Process process.Process
	shown   string // the attributes of its resource
}

// Resource returns the resource of a member.
func (m *Member) Resource(builder *metadata.MetricsBuilder) pcommon.Resource {
	return m.Process.Resource(builder.NewResourceBuilder())
}

// Compare puts nil, which is no process, first.
func (m *Member) Compare(other *Member) int {
	switch {
	case m == other:
		return 0
	case m == nil:
		return -1
	case other == nil:
		return 1
	}
	return cmp.Or(cmp.Compare(m.Process.PID, other.Process.PID), cmp.Compare(m.Process.StartNanos, other.Process.StartNanos),
		cmp.Compare(m.shown, other.shown))
}

// Roster has the processes that have series. Each stays as it was described when it was
// met, until its series have ended. Its zero value is not usable: see [NewRoster].
type Roster struct {
	directory *process.Directory
	builder   *metadata.MetricsBuilder
	byNumber  map[uint64]*Member
	held      map[process.ID]*Member
}

// NewRoster returns a Roster without members.
func NewRoster(directory *process.Directory, builder *metadata.MetricsBuilder) *Roster {
	return &Roster{directory: directory, builder: builder, byNumber: map[uint64]*Member{}, held: map[process.ID]*Member{}}
}

// Number returns the member that has a number, or nil.
func (r *Roster) Number(number uint64) *Member { return r.byNumber[number] }

// Meet returns who has a number, and holds it.
func (r *Roster) Meet(number uint64, p Process) *Member {
	known, ok := r.held[p.ID]
	if !ok {
		known = r.describe(p)
		r.held[p.ID] = known
	}
	r.byNumber[number] = known
	return known
}

func (r *Roster) describe(p Process) *Member {
	m := &Member{Process: r.directory.Hold(p.ID, p.Seen)}
	m.shown = fmt.Sprintf("%#v", m.Resource(r.builder).Attributes().AsRaw()) // in the order of the keys
	for _, other := range r.held {
		if m.Compare(other) == 0 {
			return other
		}
	}
	return m
}

// KeepOnly releases all but those that something is said of.
func (r *Roster) KeepOnly(said map[*Member]bool) {
	maps.DeleteFunc(r.held, func(id process.ID, m *Member) bool {
		if !said[m] {
			r.directory.Release(id)
		}
		return !said[m]
	})
	maps.DeleteFunc(r.byNumber, func(_ uint64, m *Member) bool { return !said[m] })
}

// Holds says whether a process with this pid is held.
func (r *Roster) Holds(pid uint32) bool {
	for id := range r.held {
		if id.PID == pid {
			return true
		}
	}
	return false
}
