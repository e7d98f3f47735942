// SPDX-License-Identifier: Apache-2.0

package traffic

import (
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
	members   map[process.ID]*member // those that it holds
	turn      uint64                 // another one after each dismissal
}

// member is what is shown of a process.
type member struct {
	identity
	resource pcommon.Resource
	isShown  bool   // the configuration does not filter it out, as far as is known
	wanted   uint64 // the turn in which it last was
}

func newRoster(directory *process.Directory, builder *metadata.MetricsBuilder) *roster {
	return &roster{directory: directory, builder: builder, seed: maphash.MakeSeed(), members: make(map[process.ID]*member), turn: 1}
}

// meet describes the processes that live, as long as they do. They are wanted.
func (r *roster) meet(processes map[uint64]owner.Process) {
	for _, p := range processes {
		if p.Alive {
			r.hold(p).wanted = r.turn
		}
	}
}

// identityOf returns what is shown of a process, and holds it.
func (r *roster) identityOf(p owner.Process) identity { return r.hold(p).identity }

func (r *roster) hold(p owner.Process) *member {
	known, ok := r.members[p.ID]
	if !ok {
		resource := r.directory.Hold(p.ID, p.Seen).Resource(r.builder.NewResourceBuilder())
		known = &member{identity: identity{instance: instanceOf(p.ID), shown: r.hash(resource)}, resource: resource}
		r.members[p.ID] = known
	}
	return known
}

// hash tells resources apart by their attributes, which are in the same order in all.
func (r *roster) hash(resource pcommon.Resource) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	for key, value := range resource.Attributes().All() {
		for _, text := range []string{key, value.AsString()} {
			h.WriteString(text)
			h.WriteByte(0) // which no name has
		}
	}
	return h.Sum64()
}

// speak returns what is shown of a process that something is said of, and so is wanted;
// for no process (PID 0) the host. The resource is the reader's to copy.
func (r *roster) speak(id process.ID, seen process.Seen) *member {
	known, ok := r.members[id]
	if !ok {
		return &member{resource: r.directory.Describe(id, seen).Resource(r.builder.NewResourceBuilder())}
	}
	known.wanted = r.turn
	return known
}

// dismiss releases those that were not wanted since the last time.
func (r *roster) dismiss() {
	maps.DeleteFunc(r.members, func(id process.ID, m *member) bool {
		if m.wanted != r.turn {
			r.directory.Release(id)
		}
		return m.wanted != r.turn
	})
	r.turn++
}

// close releases all.
func (r *roster) close() {
	r.turn++ // in which nobody was wanted
	r.dismiss()
}
