// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// obi gives our programs the map that OBI pins, and takes it away again, since OBI can be started,
// updated and stopped at any time.
type obi struct {
	path   string
	want   *ebpf.MapSpec
	warn   func(string)
	inform func(string)

	slot      *ebpf.Map      // for one map: the one that is used
	found     *ebpf.Map      // for one map: the one that is pinned
	isThere   *ebpf.Variable // tells the programs whether there is a map in slot
	leftovers *ebpf.Map      // what is not to be used

	counter *ebpf.Program // counts the holders of the map that was found
	holders *ebpf.Variable

	there     bool   // there is a map in slot
	pinned    fileID // the file at path; zero if there was none
	abandoned fileID // the file at path when OBI had ended
	complaint string // the last one that was logged
}

func newOBI(options Options, object *kernel.Object, spec *ebpf.CollectionSpec) *obi {
	return &obi{
		path: options.OBIMap, want: spec.Maps[bpfMapObiMap].InnerMap, warn: options.Warn, inform: options.Inform,
		slot: object.Maps[bpfMapObiMap], found: object.Maps[bpfMapObiPinned], isThere: object.Variables[bpfVarObiIsThere], leftovers: object.Maps[bpfMapObiLeftovers],
		counter: object.Programs[bpfProgCountHolders], holders: object.Variables[bpfVarObiMapHolders],
	}
}

// errAbandoned means that OBI has ended and left its map: the content of that would never change
// again.
var errAbandoned = errors.New("OBI has ended and has left its map behind")

// errHidden means that it is not known whether OBI has pinned a map. Where systemd mounts the file system
// of BPF, root alone can search it, so this is so for each Collector that runs as another user.
var errHidden = errors.New("whether OBI has pinned its map cannot be seen")

// refresh checks whether OBI has pinned another map or no longer has one, and reports whether this
// is so.
func (o *obi) refresh() (changed bool) {
	var found fileID
	info, err := os.Stat(o.path)
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w: %w", errHidden, err)
	}
	if err == nil {
		found = identify(info)
		if found == o.pinned && o.there {
			err = o.hold()
		} else {
			err = o.take(found)
		}
	}
	o.pinned = found
	if errors.Is(err, errAbandoned) {
		o.abandoned = found
	}
	changed = o.fill(err == nil)
	o.say(err, changed)
	return changed
}

// say logs the state if it has changed.
func (o *obi) say(err error, changed bool) {
	complaint, log := "", o.warn
	switch {
	case err == nil && changed:
		o.inform("source obi is on: OBI has pinned its map at " + o.path)
	case errors.Is(err, os.ErrNotExist) && changed:
		o.inform("source obi is off: OBI's map has gone from " + o.path)
	case errors.Is(err, errHidden): // most machines have no OBI
		complaint, log = err.Error(), o.inform
	case err != nil && !errors.Is(err, os.ErrNotExist):
		complaint = err.Error()
	}
	if complaint != "" && complaint != o.complaint {
		log("source obi is off: " + complaint)
	}
	o.complaint = complaint
}

// fill sets whether there is a map in the slot, and empties the slot if not. It reports whether
// this has changed.
func (o *obi) fill(there bool) (changed bool) {
	if there == o.there {
		return false
	}
	o.there = there
	var err error
	if !there {
		err = errors.Join(o.slot.Delete(uint32(0)), o.found.Delete(uint32(0)))
	}
	_ = errors.Join(err, o.isThere.Set(there)) // an error means that the maps are closed
	return true
}

// take puts the pinned map into the slots.
func (o *obi) take(found fileID) (err error) {
	m, err := ebpf.LoadPinnedMap(o.path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("open the map that OBI pins: %w", err)
	}
	defer m.Close()
	if m.Type() != o.want.Type || m.KeySize() != o.want.KeySize || m.ValueSize() != o.want.ValueSize {
		return fmt.Errorf("%s is %v with keys of %d and values of %d bytes, not %v with %d and %d",
			o.path, m.Type(), m.KeySize(), m.ValueSize(), o.want.Type, o.want.KeySize, o.want.ValueSize)
	}
	if err := o.found.Put(uint32(0), m); err != nil {
		return fmt.Errorf("look into %s: %w", o.path, err)
	}
	defer func() {
		if err != nil {
			_ = o.found.Delete(uint32(0)) // so that it does not keep the map
		}
	}()
	if err := o.hold(); err != nil {
		return err
	}
	if found == o.abandoned {
		o.disbelieve(m)
	}
	if err := o.slot.Put(uint32(0), m); err != nil {
		return fmt.Errorf("look into %s: %w", o.path, err)
	}
	return nil
}

// hold returns errAbandoned if the map that was found has no other holders than its pin, our slot
// of it, and our other slot or the program that counts.
func (o *obi) hold() error {
	var holders int64
	_, err := o.counter.Run(nil)
	if err := errors.Join(err, o.holders.Get(&holders)); err != nil {
		return fmt.Errorf("count who has %s: %w", o.path, err)
	}
	if holders <= 3 {
		return fmt.Errorf("%w: %s", errAbandoned, o.path)
	}
	return nil
}

// disbelieve records what a map contains that OBI has left.
func (o *obi) disbelieve(m *ebpf.Map) {
	var thread uint64
	var ids [24]byte
	for entries := m.Iterate(); entries.Next(&thread, &ids); {
		_ = o.leftovers.Put(thread, ids) // an error means that the maps are closed
	}
}
