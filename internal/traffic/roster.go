package traffic

import (
	"fmt"
	"hash/maphash"
	"maps"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// roster has the processes that have series, or may have some soon. Each stays as it
// was described when it was met, while it lived if it lived long enough, until its
// series have ended.
type roster struct {
	directory *process.Directory
	builder   *metadata.MetricsBuilder
	seed      maphash.Seed
	members   map[process.ID]member // those that it holds
}

// member is what is shown of a process.
type member struct {
	face
	resource pcommon.Resource
}

func newRoster(directory *process.Directory, builder *metadata.MetricsBuilder) *roster {
	return &roster{directory: directory, builder: builder, seed: maphash.MakeSeed(), members: make(map[process.ID]member)}
}

// meet describes the processes that live, as long as they do.
func (r *roster) meet(processes map[uint64]owner.Process) {
	for _, p := range processes {
		if p.Alive {
			r.faceOf(p)
		}
	}
}

// faceOf returns what is shown of a process, and holds it.
func (r *roster) faceOf(p owner.Process) face {
	known, ok := r.members[p.ID]
	if !ok {
		resource := r.directory.Hold(p.ID, p.Seen).Resource(r.builder.NewResourceBuilder())
		shown := fmt.Sprintf("%#v", resource.Attributes().AsRaw()) // in the order of the keys
		known = member{face{instance: instanceOf(p.ID), shown: maphash.String(r.seed, shown)}, resource}
		r.members[p.ID] = known
	}
	return known.face
}

// resource is that of a process, which is the reader's to copy; for no process (PID 0)
// that of the host.
func (r *roster) resource(id process.ID, seen process.Seen) pcommon.Resource {
	if known, ok := r.members[id]; ok {
		return known.resource
	}
	return r.directory.Describe(id, seen).Resource(r.builder.NewResourceBuilder())
}

// keepOnly releases all but those that live, and those that a report says something of.
func (r *roster) keepOnly(processes map[uint64]owner.Process, said *report) {
	wanted := make(map[process.ID]bool, len(processes))
	for _, p := range processes {
		if p.Alive {
			wanted[p.ID] = true
		}
	}
	for _, usages := range [][]usage{said.processes, said.gone, said.resumed} {
		for _, u := range usages {
			wanted[u.process.ID] = true
		}
	}
	maps.DeleteFunc(r.members, func(id process.ID, _ member) bool {
		if !wanted[id] {
			r.directory.Release(id)
		}
		return !wanted[id]
	})
}
