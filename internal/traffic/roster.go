package traffic

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

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
	faces     map[process.ID]face // of those that it holds
}

func newRoster(directory *process.Directory, builder *metadata.MetricsBuilder) *roster {
	return &roster{directory: directory, builder: builder, seed: maphash.MakeSeed(), faces: make(map[process.ID]face)}
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
	known, ok := r.faces[p.ID]
	if !ok {
		resource := r.directory.Hold(p.ID, p.Seen).Resource(r.builder.NewResourceBuilder())
		shown := fmt.Sprintf("%#v", resource.Attributes().AsRaw()) // in the order of the keys
		known = face{instance: instanceOf(p.ID), shown: maphash.String(r.seed, shown)}
		r.faces[p.ID] = known
	}
	return known
}

// keepOnly releases all but those that live, and those that a report says something of.
func (r *roster) keepOnly(processes map[uint64]owner.Process, said *report) {
	wanted := make(map[process.ID]bool)
	for _, p := range processes {
		if p.Alive {
			wanted[p.ID] = true
		}
	}
	for _, u := range slices.Concat(said.processes, said.gone, said.resumed) {
		wanted[u.process.ID] = true
	}
	maps.DeleteFunc(r.faces, func(id process.ID, _ face) bool {
		if !wanted[id] {
			r.directory.Release(id)
		}
		return !wanted[id]
	})
}
