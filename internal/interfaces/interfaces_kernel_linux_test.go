// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/process"
)

// reader is a Reader with the calls that tests need.
type reader struct{ *Reader }

func read(t *testing.T, i *Interfaces) reader {
	t.Helper()
	r := reader{i.NewReader()}
	kerneltest.Start(t, r)
	return r
}

// device is what a survey finds out about an interface.
type device struct {
	Kind    string
	Stacked bool
}

// look surveys the machine and returns the survey and all interfaces.
func (r reader) look(t *testing.T) (Survey, map[Key]Entry) {
	t.Helper()
	survey, err := r.Survey()
	if err != nil {
		t.Fatal(err)
	}
	all, err := r.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	return survey, all
}

// found surveys the machine and returns the devices of a network namespace, by name.
func (r reader) found(t *testing.T, namespace string) map[string]device {
	t.Helper()
	survey, all := r.look(t)
	devices := map[string]device{}
	for key, entry := range all {
		if entry.NetnsInode == inodeOf(t, namespace) && !survey.Gone(key, entry) {
			kind := process.Text(entry.Kind[:])
			devices[process.Text(entry.Name[:])] = device{kind, IsStacked(kind)}
		}
	}
	return devices
}

// key returns the key of a device that was surveyed.
func (r reader) key(t *testing.T, namespace, name string) Key {
	t.Helper()
	_, all := r.look(t)
	for key, entry := range all {
		if entry.NetnsInode == inodeOf(t, namespace) && process.Text(entry.Name[:]) == name {
			return key
		}
	}
	t.Fatalf("%s is not found", name)
	return Key{}
}

func inodeOf(t *testing.T, namespace string) uint32 {
	t.Helper()
	info, err := os.Stat(filepath.Join("/run/netns", namespace))
	if err != nil {
		t.Fatal(err)
	}
	return uint32(info.Sys().(*syscall.Stat_t).Ino)
}

func TestKernelFollowsWhatInterfacesAreCalled(t *testing.T) {
	r := read(t, New())
	home, _ := kerneltest.Namespaces(t)
	kerneltest.Inhabit(t, home.Name)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	kerneltest.InNamespace(t, home.Name, func() { add(t, bridge) })
	before := r.key(t, home.Name, "br0")
	kerneltest.InNamespace(t, home.Name, func() {
		if err := netlink.LinkSetName(bridge, "br1"); err != nil {
			t.Fatal(err)
		}
	})
	if after := r.key(t, home.Name, "br1"); after != before {
		t.Errorf("an interface is %+v, and %+v with another name", before, after)
	}
	want := map[string]device{"lo": {}, home.Device: {Kind: "veth"}, "br1": {Kind: "bridge", Stacked: true}}
	if diff := cmp.Diff(want, r.found(t, home.Name)); diff != "" {
		t.Errorf("the namespace's interfaces differ (-want +got):\n%s", diff)
	}
}

// TestKernelLoadsTheSurveysOfOlderKernels loads the programs that this kernel can run besides the one that is used.
func TestKernelLoadsTheSurveysOfOlderKernels(t *testing.T) {
	kerneltest.Require(t)
	types, err := kernel.Types()
	if err != nil {
		t.Fatal(err)
	}
	surveys := []string{bpfProgSurveyInterfaces516, bpfProgSurveyInterfaces66, bpfProgSurveyInterfaces}
	for _, survey := range surveys[:slices.Index(surveys, surveyFor(types))] {
		object, err := loadSurvey(survey)
		if err != nil {
			t.Errorf("%s is not loaded: %v", survey, err)
			continue
		}
		if err := object.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKernelSeesThatAnInterfaceIsGone(t *testing.T) {
	r := read(t, New())
	home, _ := kerneltest.Namespaces(t)
	kerneltest.Inhabit(t, home.Name)
	kept := r.key(t, home.Name, "lo")
	key := r.key(t, home.Name, home.Device)
	kerneltest.InNamespace(t, home.Name, func() {
		link, err := netlink.LinkByName(home.Device)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	})
	survey, all := r.look(t)
	if !survey.Gone(key, all[key]) || survey.Gone(kept, all[kept]) {
		t.Errorf("gone are the one that was deleted: %v, and lo: %v", survey.Gone(key, all[key]), survey.Gone(kept, all[kept]))
	}
}

// A namespace without a process is not surveyed, but it is known whether it exists.
func TestKernelSeesThatANamespaceIsGone(t *testing.T) {
	r := read(t, New())
	home, _ := kerneltest.Namespaces(t)
	name, remove := lonelyNamespace(t, home.Name)
	leave := kerneltest.Inhabit(t, name)
	key := r.key(t, name, "lo")
	leave()
	survey, all := r.look(t)
	if _, inhabited := survey.Namespaces()[key.Netns]; inhabited || survey.Gone(key, all[key]) {
		t.Errorf("of a namespace without a process %+v is known", survey.All[key.Netns])
	}
	remove()
	for range 600 { // the kernel removes it some time later
		if survey, all = r.look(t); survey.Gone(key, all[key]) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("an interface is there though its namespace is not")
}

// lonelyNamespace makes a network namespace that remove deletes.
func lonelyNamespace(t *testing.T, home string) (name string, remove func()) {
	t.Helper()
	name = fmt.Sprintf("nettap-%d-lonely", os.Getpid())
	removed := false
	remove = func() {
		if !removed {
			removed = true
			if err := netns.DeleteNamed(name); err != nil {
				t.Errorf("delete network namespace: %v", err)
			}
		}
	}
	kerneltest.InNamespace(t, home, func() { // which this leaves again
		handle, err := netns.NewNamed(name)
		if err != nil {
			t.Fatalf("make network namespace: %v", err)
		}
		handle.Close()
	})
	t.Cleanup(remove)
	return name, remove
}

func TestKernelForgetsWhatAllReadersHave(t *testing.T) {
	shared := New()
	one, other := read(t, shared), read(t, shared)
	home, _ := kerneltest.Namespaces(t)
	leave := kerneltest.Inhabit(t, home.Name)
	key := one.key(t, home.Name, home.Device)
	leave() // so that the survey does not find a process in it
	knows := func() [2]bool {
		var both [2]bool
		for i, r := range []reader{one, other} {
			_, all := r.look(t)
			_, both[i] = all[key]
		}
		return both
	}
	forget := func(r reader) {
		if err := r.Forget(key); err != nil {
			t.Fatal(err)
		}
	}
	stored := func() bool {
		var entry Entry
		return shared.object.Maps[bpfMapInterfaces].Lookup(key, &entry) == nil
	}
	forget(one)
	if got := knows(); got != [2]bool{false, true} || !stored() {
		t.Errorf("after one has forgotten it, they know it: %v", got)
	}
	kerneltest.Inhabit(t, home.Name)
	if got := knows(); got != [2]bool{true, true} {
		t.Errorf("after it was found again, they know it: %v", got)
	}
	forget(one)
	forget(other)
	if stored() {
		t.Error("both have forgotten it, and it is there")
	}
}
