// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"fmt"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelANamespaceHasItsPartOfTheInterfaces makes more devices in one network namespace than
// it may have entries. Its neighbour and the host still get theirs.
func TestKernelANamespaceHasItsPartOfTheInterfaces(t *testing.T) {
	const part, excess = 60, 20
	shared := New()
	shared.limit = 4 * part
	r := read(t, shared)
	crowded, neighbour := kerneltest.Namespaces(t)
	var links []netlink.Link
	kerneltest.InNamespace(t, crowded.Name, func() {
		for i := range part + excess {
			link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("crowd%d", i)}}
			if err := netlink.LinkAdd(link); err != nil { // it is deleted with its namespace
				t.Fatal(err)
			}
			links = append(links, link)
		}
	})
	kerneltest.Inhabit(t, crowded.Name)
	kerneltest.Inhabit(t, neighbour.Name)

	for range 2 { // what one survey left out, the next one leaves out too
		if got := len(r.found(t, crowded.Name)); got != part {
			t.Errorf("%d interfaces of the namespace with too many are known, want %d", got, part)
		}
		if got := len(r.found(t, neighbour.Name)); got != 2 {
			t.Errorf("%d interfaces of its neighbour are known, want 2", got)
		}
	}
	refused := r.Usage()[bpfMapInterfaces].Refused
	if least := uint64(2 * (excess + 2)); refused < least { // there are lo and a veth as well
		t.Errorf("%d entries were refused, want %d at least", refused, least)
	}
	requireHostsInterfaces(t, r)

	kerneltest.InNamespace(t, crowded.Name, func() {
		for _, link := range links[:part] {
			if err := netlink.LinkDel(link); err != nil {
				t.Fatal(err)
			}
		}
	})
	survey, all := r.look(t)
	for key, entry := range all {
		if survey.Gone(key, entry) {
			if err := r.Forget(key); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.look(t) // which tells the kernel side how many entries there are
	if got := len(r.found(t, crowded.Name)); got != excess+2 {
		t.Errorf("%d interfaces are known after the others were deleted, want %d", got, excess+2)
	}
}

// requireHostsInterfaces requires that all interfaces of the host are known.
func requireHostsInterfaces(t *testing.T, r reader) {
	t.Helper()
	host, err := r.Host()
	if err != nil {
		t.Fatal(err)
	}
	var own unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		t.Fatal(err)
	}
	if uint32(own.Ino) != host {
		return // the test is not in the host's namespace, and does not know its devices
	}
	want, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	survey, all := r.look(t)
	got := 0
	for key, entry := range all {
		if key.Netns == survey.Host && !survey.Gone(key, entry) {
			got++
		}
	}
	if got != len(want) {
		t.Errorf("%d interfaces of the host are known, want %d", got, len(want))
	}
}
