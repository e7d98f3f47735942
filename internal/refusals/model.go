// SPDX-License-Identifier: Apache-2.0

package refusals

import (
	"cmp"
	"net/netip"
	"slices"
)

// Refusal is a number of attempts that were refused in the same way. If there were too many to
// tell apart, an address is not valid, and a port or namespace is 0.
type Refusal struct {
	Local, Peer netip.Addr
	NetnsInode  uint32
	Port        uint16 // the local port
	Cause       string // "closed_port", "queue_full"
	Count       uint64
	FirstNanos  uint64 // CLOCK_BOOTTIME
}

// causes are the reasons for which an attempt is refused.
//
// Kernel side: enum refusal in bpf/lib/accepts/refused.h.
var causes = map[uint8]string{1: "closed_port", 2: "queue_full"}

// refusalFrom converts an entry of the kernel side.
//
// Kernel side: struct refused_key and struct refused in bpf/lib/accepts/refused.h.
func refusalFrom(key bpfRefusedKey, value bpfRefused) Refusal {
	return Refusal{
		Local: address(key.LocalAddress), Peer: address(key.PeerAddress), NetnsInode: key.NetnsInode, Port: key.Port,
		Cause: causes[key.Refusal], Count: value.Count, FirstNanos: value.FirstNs,
	}
}

// address returns an address that is not valid if the bytes are zero: no one connects to or from
// ::.
func address(bytes [16]uint8) netip.Addr {
	if bytes == [16]uint8{} {
		return netip.Addr{}
	}
	return netip.AddrFrom16(bytes).Unmap()
}

// sorted returns the refusals in the order of their first attempts.
func sorted(refused []Refusal) []Refusal {
	slices.SortFunc(refused, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.FirstNanos, b.FirstNanos), a.Peer.Compare(b.Peer), cmp.Compare(a.Port, b.Port))
	})
	return refused
}
