package tracecontext

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// obi puts the map that OBI pins where our programs look for it, and takes it away
// again: OBI can be started, updated and stopped at any time.
type obi struct {
	path      string
	want      *ebpf.MapSpec
	warn      func(string)
	slot      *ebpf.Map      // of one map
	isThere   *ebpf.Variable // what the programs know of there
	there     bool           // there is a map in the slot
	pinned    fileID         // what is at path; zero: nothing was
	complaint string         // the last one
}

func newOBI(options Options, object *kernel.Object, spec *ebpf.CollectionSpec) *obi {
	return &obi{
		path: options.OBIMap, want: spec.Maps["obi_map"].InnerMap, warn: options.Warn,
		slot: object.Maps["obi_map"], isThere: object.Variables["obi_is_there"],
	}
}

// refresh looks whether OBI has pinned another map, or none any more, and says whether
// that is so. What is wrong with one is said once.
func (o *obi) refresh() (changed bool) {
	var found fileID
	info, err := os.Stat(o.path)
	if err == nil {
		if found = identify(info); found == o.pinned {
			return false
		}
		err = o.take()
	}
	o.pinned = found
	complaint := ""
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		complaint = err.Error()
	}
	if complaint != "" && complaint != o.complaint {
		o.warn("source obi is off: " + complaint)
	}
	o.complaint = complaint
	return o.fill(err == nil)
}

// fill says whether there is a map in the slot, and empties it if there is not to be one.
func (o *obi) fill(there bool) (changed bool) {
	if there == o.there {
		return false
	}
	o.there = there
	var err error
	if !there {
		err = o.slot.Delete(uint32(0))
	}
	_ = errors.Join(err, o.isThere.Set(there)) // it fails only when the maps are gone
	return true
}

// take puts the pinned map into the slot.
func (o *obi) take() error {
	m, err := ebpf.LoadPinnedMap(o.path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("open the map that OBI pins: %w", err)
	}
	defer m.Close()
	if m.Type() != o.want.Type || m.KeySize() != o.want.KeySize || m.ValueSize() != o.want.ValueSize {
		return fmt.Errorf("%s is %v with keys of %d and values of %d bytes, not %v with %d and %d",
			o.path, m.Type(), m.KeySize(), m.ValueSize(), o.want.Type, o.want.KeySize, o.want.ValueSize)
	}
	if err := o.slot.Put(uint32(0), m); err != nil {
		return fmt.Errorf("look into %s: %w", o.path, err)
	}
	return nil
}
