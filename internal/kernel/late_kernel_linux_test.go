// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// A hook that could not be made to fire at the start counts as active once it fires. Programs have
// to record that they run until all hooks have fired.
func TestKernelAHookThatFiresLaterIsActive(t *testing.T) {
	o := &Object{hooks: []Hook{
		{Name: "early", Programs: []string{"first"}},
		{Name: "late", Programs: []string{"second", "third"}, Unproven: "lo is down"},
		{Name: "last", Programs: []string{"fourth"}, Unproven: "lo is down"},
	}}
	o.Collection = withFlags(t, "enabled", "fired_first", "fired_second", "fired_third", "fired_fourth")
	if err := o.Enable(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		fires        string
		wantUnproven [3]bool
		wantEnabled  uint8
	}{
		{"first", [3]bool{false, true, true}, enabledUnproven},
		{"second", [3]bool{false, true, true}, enabledUnproven},
		{"third", [3]bool{false, false, true}, enabledUnproven},
		{"fourth", [3]bool{}, enabled},
	} {
		if err := o.Variables["fired_"+step.fires].Set(true); err != nil {
			t.Fatal(err)
		}
		var unproven [3]bool
		for i, hook := range o.Hooks() {
			unproven[i] = hook.Unproven != ""
		}
		var how uint8
		if err := o.Variables["enabled"].Get(&how); err != nil {
			t.Fatal(err)
		}
		if unproven != step.wantUnproven || how != step.wantEnabled {
			t.Errorf("after %s has fired, unproven are %v and the programs are enabled as %d, want %v and %d",
				step.fires, unproven, how, step.wantUnproven, step.wantEnabled)
		}
	}
}

// withFlags returns a collection with the given variables of one byte each, as a loaded object has
// them.
func withFlags(t *testing.T, names ...string) *ebpf.Collection {
	t.Helper()
	const section = ".bss"
	spec := &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{section: {
			Name: section, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(names)), MaxEntries: 1,
			Flags: unix.BPF_F_MMAPABLE, Contents: []ebpf.MapKV{{Key: uint32(0), Value: make([]byte, len(names))}},
		}},
		Variables: map[string]*ebpf.VariableSpec{},
	}
	for i, name := range names {
		spec.Variables[name] = &ebpf.VariableSpec{Name: name, SectionName: section, Offset: uint32(i), Value: []byte{0}}
	}
	_ = rlimit.RemoveMemlock() // it matters before Linux 5.11
	loaded, err := ebpf.NewCollection(spec)
	if errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(loaded.Close)
	return loaded
}
