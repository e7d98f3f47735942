// SPDX-License-Identifier: Apache-2.0

// Package listeners knows which TCP sockets listen, and whose they are. Kernel side:
// bpf/listeners.bpf.c.
package listeners

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/process"
)

// Listener is a TCP socket that listens, or did.
type Listener struct {
	Process     process.ID // called listen, or had the socket open when nettap started
	Seen        process.Seen
	Local       netip.AddrPort
	NetnsInode  uint32
	Inode       uint64 // of the socket, as in /proc/PID/fd
	Opened      uint64 // CLOCK_BOOTTIME; 0 if it was there when nettap started
	Closed      uint64 // CLOCK_BOOTTIME; 0 if it still exists, or if its end was not seen
	QueueLength uint32 // connections that wait for an accept
	QueueLimit  uint32
}

// Changes are the listeners that have begun and ended, each in this order. A listener that did
// both is in both lists.
type Changes struct{ Opened, Closed []Listener }

// key identifies a listener, also from a later one whose socket has the same address in memory.
type key struct{ socket, opened uint64 }

// known are the listeners that were reported as begun and have not ended.
type known map[key]Listener

// change updates known with the listeners that exist, which is nil if they are the same as before,
// and with those that have ended since. A listener that is gone without a record has ended as
// well.
func (k known) change(there map[key]Listener, ended map[key]Listener) Changes {
	var changes Changes
	for of, l := range there {
		if _, ok := k[of]; !ok {
			k[of] = l
			changes.Opened = append(changes.Opened, l)
		}
	}
	for of, e := range ended {
		if _, ok := k[of]; !ok {
			opened := e
			opened.Closed = 0
			changes.Opened = append(changes.Opened, opened)
		}
		delete(k, of)
		changes.Closed = append(changes.Closed, e)
	}
	if there != nil {
		changes.Closed = append(changes.Closed, k.vanished(there)...)
	}
	slices.SortFunc(changes.Opened, inOrder)
	slices.SortFunc(changes.Closed, inOrder)
	return changes
}

// vanished removes the listeners that no longer exist, and returns them.
func (k known) vanished(there map[key]Listener) []Listener {
	var gone []Listener
	for of, l := range k {
		if _, ok := there[of]; !ok {
			gone = append(gone, l)
			delete(k, of)
		}
	}
	return gone
}

func inOrder(a, b Listener) int {
	return cmp.Or(cmp.Compare(a.Closed, b.Closed), cmp.Compare(a.Opened, b.Opened), a.Local.Compare(b.Local),
		cmp.Compare(a.Process.PID, b.Process.PID), cmp.Compare(a.Inode, b.Inode))
}

// decode decodes a record of the kernel's ring.
//
// Kernel side: struct ending in bpf/listeners.bpf.c.
func decode(record []byte) (key, Listener, error) {
	var raw bpfEnding
	if size := int(unsafe.Sizeof(raw)); len(record) != size {
		return key{}, Listener{}, fmt.Errorf("decode ending: the record has %d bytes, not %d", len(record), size)
	}
	kernel.CopyRecord(&raw, record)
	l := listenerFrom(&raw.Listening)
	l.Closed = raw.ClosedNs
	return key{raw.Socket, raw.Listening.OpenedNs}, l, nil
}

// listenerFrom converts an entry of the kernel side.
//
// Kernel side: struct listening in bpf/lib/accepts/listening.h.
func listenerFrom(raw *bpfListening) Listener {
	return Listener{
		Process: process.ID{
			StartNanos: raw.Process.StartNs, PID: raw.Process.Pid, ExecID: raw.Process.ExecId,
			UserID: raw.Process.Uid, RealUserID: raw.Process.RealUid,
		},
		Seen: process.Seen{
			FirstNanos: raw.Seen.FirstNs, CgroupID: raw.Seen.CgroupId,
			Comm: process.Text(raw.Seen.Comm[:]), Executable: process.Text(raw.Seen.Executable[:]),
		},
		Local:      netip.AddrPortFrom(netip.AddrFrom16(raw.LocalAddress).Unmap(), raw.LocalPort),
		NetnsInode: raw.NetnsInode, Inode: raw.Inode, Opened: raw.OpenedNs,
		QueueLength: raw.QueueLength, QueueLimit: raw.QueueLimit,
	}
}
