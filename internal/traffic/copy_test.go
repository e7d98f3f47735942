// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/owner"
)

// TestPeekingChangesNothing requires that what is published does not depend on whether somebody peeks between collections.
func TestPeekingChangesNothing(t *testing.T) {
	for _, blind := range []bool{false, true} {
		for seed := range int64(10) {
			t.Run(fmt.Sprint("blind ", blind, " seed ", seed), func(t *testing.T) {
				t.Parallel()
				undisturbed, disturbed := published(t, seed, blind, false), published(t, seed, blind, true)
				for i := range undisturbed {
					if diff := cmp.Diff(undisturbed[i], disturbed[i]); diff != "" {
						t.Fatalf("collection %d differs with peeks (-without +with):\n%s", i, diff)
					}
				}
			})
		}
	}
}

// published simulates a random machine, and returns what each collection published of it.
func published(t *testing.T, seed int64, blind, peeks bool) []string {
	w := newWorld(seed, conditions{blind: blind})
	v := startReceiver(w)
	var all []string
	for range 200 {
		w.step()
		if peeks {
			v.peek()
		}
		if w.Intn(3) != 0 {
			continue
		}
		v.epoch++
		s := v.snapshot(v.epoch)
		departing := v.ledger.departing(s)
		report := v.ledger.post(s, departing)
		if w.Intn(3) != 0 { // otherwise the batch is refused
			v.ledger.endings.delivered()
		}
		v.forgotten(v.ledger, departing)
		text, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(v.emitter.emit(v.boot.Add(time.Duration(v.now)), report))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

// peek does what [Traffic.Peek] does.
func (v *witness) peek() {
	s := &snapshot{
		now: v.now, epoch: v.surveyed, traffic: maps.Clone(v.traffic), accounts: maps.Clone(v.accounts),
		processes: maps.Clone(v.processes), interfaces: maps.Clone(v.seen),
		namespaces: map[uint64]bpfNamespaceEntry{}, counters: map[uint64]map[string]counter{},
	}
	for _, d := range v.devices {
		if d.space.inhabited {
			s.namespaces[d.space.cookie] = bpfNamespaceEntry{Epoch: v.surveyed, Inode: d.space.inode, Pid: 1}
			if s.counters[d.space.cookie] == nil {
				s.counters[d.space.cookie] = map[string]counter{}
			}
			s.counters[d.space.cookie][d.name] = d.own
		}
	}
	v.emitter.emit(v.boot.Add(time.Duration(v.now)), v.ledger.copy(seenIdentity).post(s, nil))
}

// TestCopySharesNothing requires that a copy shares no map or slice with the original, because a peek would change it. It
// fails for a new field that is not copied.
func TestCopySharesNothing(t *testing.T) {
	var l ledger
	fill(reflect.ValueOf(&l).Elem())
	c := l.copy(func(owner.Process) identity { return identity{} })
	for name, pair := range pairs(reflect.ValueOf(&l).Elem(), reflect.ValueOf(c).Elem(), "ledger") {
		if pair[0].Pointer() == pair[1].Pointer() {
			t.Errorf("%s is shared with the copy", name)
		}
		if pair[0].Kind() != reflect.Pointer && pair[0].Len() != pair[1].Len() {
			t.Errorf("%s has %d entries in the copy, not %d", name, pair[1].Len(), pair[0].Len())
		}
	}
}

// replaced are fields whose content is never changed, but only replaced as a whole.
var replaced = []string{"previous", "before", "booked", "spoken", "renamed", "relearned", "departure"}

// fill puts an entry into each map and slice of a struct.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		field := reflect.NewAt(v.Field(i).Type(), v.Field(i).Addr().UnsafePointer()).Elem()
		switch {
		case slices.Contains(replaced, v.Type().Field(i).Name):
		case field.Kind() == reflect.Map:
			field.Set(reflect.MakeMap(field.Type()))
			element := reflect.New(field.Type().Elem()).Elem()
			if element.Kind() == reflect.Pointer {
				element.Set(reflect.New(element.Type().Elem()))
				fill(element.Elem())
			}
			field.SetMapIndex(reflect.New(field.Type().Key()).Elem(), element)
		case field.Kind() == reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 1, 2))
		case field.Kind() == reflect.Struct:
			fill(field)
		}
	}
}

// pairs returns the maps and slices of two structs, and recursively those of what their pointers point
// to.
func pairs(a, b reflect.Value, path string) map[string][2]reflect.Value {
	all := map[string][2]reflect.Value{}
	for i := range a.NumField() {
		name := path + "." + a.Type().Field(i).Name
		switch a.Field(i).Kind() {
		case reflect.Map, reflect.Slice:
			if a.Field(i).Len() > 0 {
				all[name] = [2]reflect.Value{a.Field(i), b.Field(i)}
			}
		case reflect.Struct:
			maps.Copy(all, pairs(a.Field(i), b.Field(i), name))
		}
		if a.Field(i).Kind() != reflect.Map {
			continue
		}
		for _, key := range a.Field(i).MapKeys() {
			ours, other := a.Field(i).MapIndex(key), b.Field(i).MapIndex(key)
			if ours.Kind() == reflect.Pointer && other.IsValid() {
				all[name+"[]"] = [2]reflect.Value{ours, other}
				maps.Copy(all, pairs(ours.Elem(), other.Elem(), name+"[]"))
			}
		}
	}
	return all
}
