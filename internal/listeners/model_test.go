// SPDX-License-Identifier: Apache-2.0

package listeners

import (
	"net/netip"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/process"
)

var equal = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestDecode(t *testing.T) {
	raw := bpfEnding{Socket: 0xffff, ClosedNs: 5_000}
	l := &raw.Listening
	l.Process.Pid, l.Process.StartNs = 7, 100
	l.OpenedNs, l.Inode, l.NetnsInode, l.QueueLength, l.QueueLimit, l.LocalPort = 2_000, 1234, 9, 1, 128, 22
	l.LocalAddress = netip.MustParseAddr("10.0.0.1").As16()
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw))

	of, got, err := decode(bytes)
	if err != nil || of != (key{0xffff, 2_000}) {
		t.Errorf("decode() = %v, %v", of, err)
	}
	want := Listener{
		Process: process.ID{PID: 7, StartNanos: 100}, Local: netip.MustParseAddrPort("10.0.0.1:22"), NetnsInode: 9, Inode: 1234,
		Opened: 2_000, Closed: 5_000, QueueLength: 1, QueueLimit: 128,
	}
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("decode() differs (-want +got):\n%s", diff)
	}
	if _, _, err := decode(bytes[1:]); err == nil {
		t.Error("a record that is too short gives no error")
	}
}

func TestChange(t *testing.T) {
	first, second := Listener{Opened: 1, Inode: 1}, Listener{Opened: 2, Inode: 2}
	// all have the same address, one after another
	of := func(l Listener) key { return key{socket: 7, opened: l.Opened} }
	gone := func(l Listener, at uint64) Listener {
		l.Closed = at
		return l
	}
	all := func(ls ...Listener) map[key]Listener {
		m := map[key]Listener{}
		for _, l := range ls {
			m[of(l)] = l
		}
		return m
	}
	for name, test := range map[string]struct {
		known, there, ended map[key]Listener
		want                Changes
		left                known
	}{
		"nothing has changed":          {known: all(first), left: known(all(first))},
		"one is still there":           {known: all(first), there: all(first), left: known(all(first))},
		"one is new":                   {known: all(first), there: all(first, second), want: Changes{Opened: []Listener{second}}, left: known(all(first, second))},
		"a known one ends":             {known: all(first), ended: all(gone(first, 5)), want: Changes{Closed: []Listener{gone(first, 5)}}, left: known{}},
		"one comes and goes unknown":   {ended: all(gone(first, 5)), want: Changes{Opened: []Listener{first}, Closed: []Listener{gone(first, 5)}}, left: known{}},
		"one ends while it is told of": {there: all(first), ended: all(gone(first, 5)), want: Changes{Opened: []Listener{first}, Closed: []Listener{gone(first, 5)}}, left: known{}},
		"one ends unseen":              {known: all(first), there: all(second), want: Changes{Opened: []Listener{second}, Closed: []Listener{first}}, left: known(all(second))},
	} {
		t.Run(name, func(t *testing.T) {
			k := known{}
			for of, l := range test.known {
				k[of] = l
			}
			got := k.change(test.there, test.ended)
			if diff := cmp.Diff(test.want, got, equal); diff != "" {
				t.Errorf("change() differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.left, k, equal, cmp.AllowUnexported(key{})); diff != "" {
				t.Errorf("what is known differs (-want +got):\n%s", diff)
			}
		})
	}
}
