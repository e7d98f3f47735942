// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"hash/maphash"
	"maps"
	"reflect"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
)

// roster has the processes that have series, or may have some soon. The description of each is
// that of the time when it was met, while it was alive if it lived long enough. It stays the same
// until the series have ended.
type roster struct {
	directory *process.Directory
	builder   *metadata.MetricsBuilder
	seed      maphash.Seed
	members   map[process.ID]*member   // the processes that it holds
	turn      uint64                   // changes with each dismissal
	met       map[uint64]owner.Process // by the last call of meet
	meetings  uint64                   // how often meet had others than before
}

// member is what is shown of a process.
type member struct {
	identity
	resource pcommon.Resource
	isShown  bool   // as far as is known, the configuration does not filter it out
	wanted   uint64 // the last turn in which it was spoken of
	met      uint64 // the last meeting at which it was alive
}

func newRoster(directory *process.Directory, builder *metadata.MetricsBuilder) *roster {
	return &roster{directory: directory, builder: builder, seed: maphash.MakeSeed(), members: make(map[process.ID]*member), turn: 1, meetings: 1}
}

// meet describes living processes while they live. They are wanted until others are met. The map is
// never changed, so if it is the one of before, so are the processes.
func (r *roster) meet(processes map[uint64]owner.Process) {
	if isSame(r.met, processes) {
		return
	}
	r.met = processes
	r.meetings++
	for _, p := range processes {
		if p.Alive {
			r.hold(p).met = r.meetings
		}
	}
}

func isSame(a, b map[uint64]owner.Process) bool {
	return reflect.ValueOf(a).UnsafePointer() == reflect.ValueOf(b).UnsafePointer()
}

// identityOf returns the identity of a process, and holds the process.
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

// hash returns a hash of a resource's attributes, which are in the same order in all resources.
func (r *roster) hash(resource pcommon.Resource) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	for key, value := range resource.Attributes().All() {
		for _, text := range []string{key, value.AsString()} {
			h.WriteString(text)
			h.WriteByte(0) // a byte that no name contains
		}
	}
	return h.Sum64()
}

// speak returns what is shown of a process that something is reported about, which makes it
// wanted. For no process (PID 0) it returns the host. The caller must copy the resource.
func (r *roster) speak(id process.ID, seen process.Seen) *member {
	known, ok := r.members[id]
	if !ok {
		return &member{resource: r.directory.Describe(id, seen).Resource(r.builder.NewResourceBuilder())}
	}
	known.wanted = r.turn
	return known
}

// dismiss releases the processes that were not wanted since the previous call.
func (r *roster) dismiss() {
	maps.DeleteFunc(r.members, func(id process.ID, m *member) bool {
		if m.wanted == r.turn || m.met == r.meetings {
			return false
		}
		r.directory.Release(id)
		return true
	})
	r.turn++
}

// close releases all processes.
func (r *roster) close() {
	r.turn++ // a turn in which none was wanted
	r.meet(nil)
	r.dismiss()
}
