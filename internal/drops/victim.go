// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"fmt"
	"maps"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// victim is a process that lost packets, as it is shown. What becomes of a process by an
// exec or a change of its user that nothing shows is the same victim.
type victim struct {
	startNanos uint64
	pid        uint32
	shown      string // the attributes of its resource
	process    process.Process
}

func (v *victim) resource(builder *metadata.MetricsBuilder) pcommon.Resource {
	return v.process.Resource(builder.NewResourceBuilder())
}

// compare puts nil, which is no process, first.
func (v *victim) compare(other *victim) int {
	if v == nil || other == nil {
		return cmp.Compare(boolToInt(v != nil), boolToInt(other != nil))
	}
	return cmp.Or(cmp.Compare(v.pid, other.pid), cmp.Compare(v.startNanos, other.startNanos), cmp.Compare(v.shown, other.shown))
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// roster has the processes that have series. Each stays as it was described when it was
// met, until its series have ended.
type roster struct {
	directory *process.Directory
	builder   *metadata.MetricsBuilder
	byNumber  map[uint64]*victim
	held      map[process.ID]*victim
}

func newRoster(directory *process.Directory, builder *metadata.MetricsBuilder) *roster {
	return &roster{directory: directory, builder: builder, byNumber: map[uint64]*victim{}, held: map[process.ID]*victim{}}
}

// meet returns who has a number, and holds it.
func (r *roster) meet(number uint64, p owner.Process) *victim {
	known, ok := r.held[p.ID]
	if !ok {
		known = r.describe(p)
		r.held[p.ID] = known
	}
	r.byNumber[number] = known
	return known
}

func (r *roster) describe(p owner.Process) *victim {
	v := &victim{startNanos: p.ID.StartNanos, pid: p.ID.PID, process: r.directory.Hold(p.ID, p.Seen)}
	v.shown = fmt.Sprintf("%#v", v.resource(r.builder).Attributes().AsRaw()) // in the order of the keys
	for _, other := range r.held {
		if v.compare(other) == 0 {
			return other
		}
	}
	return v
}

// keepOnly releases all but those that something is said of.
func (r *roster) keepOnly(said []drop) {
	wanted := make(map[*victim]bool, len(said))
	for _, d := range said {
		wanted[d.victim] = true
	}
	maps.DeleteFunc(r.held, func(id process.ID, v *victim) bool {
		if !wanted[v] {
			r.directory.Release(id)
		}
		return !wanted[v]
	})
	maps.DeleteFunc(r.byNumber, func(_ uint64, v *victim) bool { return !wanted[v] })
}
