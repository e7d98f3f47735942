// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// tunnel is a kind of device that encapsulates packets.
type tunnel struct {
	kind string
	link func(attributes netlink.LinkAttrs, here, there kerneltest.Namespace) netlink.Link
	// around is how many bytes are around a packet on the device below, whose link
	// header they include.
	around int
	frames bool // it carries frames, whose ends know each other's address
	ipv6   bool // it carries IPv6
}

const ethernet, outer4, outer6, udp = 14, 20, 40, 8

var tunnels = []tunnel{
	{"vxlan", func(a netlink.LinkAttrs, here, there kerneltest.Namespace) netlink.Link { // without a device that it is on
		return &netlink.Vxlan{LinkAttrs: a, VxlanId: 213, Group: there.IPv4.AsSlice(), SrcAddr: here.IPv4.AsSlice(), Port: 4789, UDPCSum: true}
	}, ethernet + outer4 + udp + 8 + ethernet, true, false},
	{"geneve", func(a netlink.LinkAttrs, _, there kerneltest.Namespace) netlink.Link {
		return &netlink.Geneve{LinkAttrs: a, ID: 213, Remote: there.IPv4.AsSlice(), Dport: 6081}
	}, ethernet + outer4 + udp + 8 + ethernet, true, false},
	{"gre", func(a netlink.LinkAttrs, here, there kerneltest.Namespace) netlink.Link {
		return &netlink.Gretun{LinkAttrs: a, Local: here.IPv4.AsSlice(), Remote: there.IPv4.AsSlice()}
	}, ethernet + outer4 + 4, false, false},
	{"gretap", func(a netlink.LinkAttrs, here, there kerneltest.Namespace) netlink.Link {
		return &netlink.Gretap{LinkAttrs: a, Local: here.IPv4.AsSlice(), Remote: there.IPv4.AsSlice()}
	}, ethernet + outer4 + 4 + ethernet, true, false},
	{"ip6gre", func(a netlink.LinkAttrs, here, there kerneltest.Namespace) netlink.Link {
		// It has an option of IPv6 that says how deep a tunnel may be in others.
		return &netlink.Gretun{LinkAttrs: a, Local: here.IPv6.AsSlice(), Remote: there.IPv6.AsSlice()}
	}, ethernet + outer6 + 8 + 4, false, false},
	{"ipip", func(a netlink.LinkAttrs, here, there kerneltest.Namespace) netlink.Link {
		return &netlink.Iptun{LinkAttrs: a, Local: here.IPv4.AsSlice(), Remote: there.IPv4.AsSlice()}
	}, ethernet + outer4, false, false},
	{"ip6tnl", func(a netlink.LinkAttrs, here, there kerneltest.Namespace) netlink.Link {
		const noEncapsulationLimit = 1 // IP6_TNL_F_IGN_ENCAP_LIMIT
		return &netlink.Ip6tnl{LinkAttrs: a, Local: here.IPv6.AsSlice(), Remote: there.IPv6.AsSlice(), Flags: noEncapsulationLimit}
	}, ethernet + outer6, false, false},
	{"sit", func(a netlink.LinkAttrs, here, there kerneltest.Namespace) netlink.Link {
		return &netlink.Sittun{LinkAttrs: a, Local: here.IPv4.AsSlice(), Remote: there.IPv4.AsSlice()}
	}, ethernet + outer4, false, true},
}

// TestKernelCreditsTunnels requires that packets through a tunnel are counted for the process there, and carried by the device below,
// where they are longer.
func TestKernelCreditsTunnels(t *testing.T) {
	w := connect(t, share(t))
	for i, tunnel := range tunnels {
		t.Run(tunnel.kind, func(t *testing.T) {
			near, far := w.digTunnel(t, tunnel, i)
			packet := 1000 + outer4 + udp
			if tunnel.ipv6 {
				packet = 1000 + outer6 + udp
			}
			w.mark()
			w.exchange(t, near, far, 100, 50)
			w.requireCarried(t, tunnel.kind, 100, 50, packet, packet+tunnel.around)
		})
	}
}

// requireCarried waits until what was exchanged on a device of both ends since mark is counted for the process
// there and carried below it: a number of packets each way, with a number of bytes each. Whether the device above
// counts a link header depends on its kind.
func (w *wire) requireCarried(t *testing.T, above string, there, back, packet, below int) {
	t.Helper()
	for _, end := range []struct {
		kerneltest.Namespace
		sent, received int
	}{{w.near, there, back}, {w.far, back, there}} {
		counted := counterOf(t, end.Name, above)
		w.lab.requireAccounts(t, end.Name, above, interfaceAccounts{
			Accounts: map[string]quantity{
				"transmit process": {uint64(end.sent), counted[bpfDirectionTRANSMIT].bytes},
				"receive process":  {uint64(end.received), counted[bpfDirectionRECEIVE].bytes},
			},
			Stacked: true,
		})
		for direction, packets := range map[bpfDirection]int{bpfDirectionTRANSMIT: end.sent, bpfDirectionRECEIVE: end.received} {
			if per := int(counted[direction].bytes) / packets; per != packet && per != packet+ethernet {
				t.Errorf("%s counts %d bytes a packet of %d", above, per, packet)
			}
		}
	}
	gotNear, gotFar, _ := w.moved()
	bytes := func(packets int) quantity { return quantity{uint64(packets), uint64(packets * below)} }
	if diff := cmp.Diff(map[string]quantity{"transmit carried": bytes(there), "receive carried": bytes(back)}, gotNear, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts below differ at the near end (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]quantity{"transmit carried": bytes(back), "receive carried": bytes(there)}, gotFar, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts below differ at the far end (-want +got):\n%s", diff)
	}
}

// exchange sends datagrams of 1000 bytes back and forth between addresses of the ends.
func (w *wire) exchange(t *testing.T, near, far netip.Addr, there, back int) {
	t.Helper()
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, near, 0) })
	w.inFar(func() { receiver = datagrams(t, far, 0) })
	sendTo(t, from, receiver.LocalAddr(), there, 1000, receiver)
	sendTo(t, receiver, from.LocalAddr(), back, 1000, from)
}

// digTunnel makes the i-th tunnel through the wire, with a device at each end that is named
// like its kind, and returns the addresses of its ends.
func (w *wire) digTunnel(t *testing.T, tunnel tunnel, i int) (near, far netip.Addr) {
	t.Helper()
	near, far = netip.AddrFrom4([4]byte{10, 215, byte(i), 1}), netip.AddrFrom4([4]byte{10, 215, byte(i), 2})
	bits := 24
	if tunnel.ipv6 {
		near, far = netip.MustParseAddr("fd15::1"), netip.MustParseAddr("fd15::2")
		bits = 64
	}
	add := func(here, there kerneltest.Namespace, address netip.Addr) {
		kerneltest.InNamespace(t, here.Name, func() {
			addLink(t, here.Name, tunnel.link(netlink.LinkAttrs{Name: tunnel.kind}, here, there))
		})
		w.settle(t, here.Name, tunnel.kind, netip.PrefixFrom(address, bits))
	}
	add(w.near, w.far, near)
	add(w.far, w.near, far)
	if tunnel.frames {
		w.acquaint(t, w.near.Name, tunnel.kind, near, w.far.Name, tunnel.kind, far)
	}
	return near, far
}

// TestKernelMeasuresFramesInTunnels requires that each frame of a segmented packet in a tunnel counts with the headers of both.
func TestKernelMeasuresFramesInTunnels(t *testing.T) {
	const times, segments = 20, 10
	w := connect(t, share(t))
	near, far := w.digTunnel(t, tunnels[0], 0)
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, near, 0) })
	w.inFar(func() { receiver = datagrams(t, far, 0) })
	setOption(t, from, unix.SOL_UDP, unix.UDP_SEGMENT, 1000)
	sendTo(t, from, receiver.LocalAddr(), times, 1000*segments, receiver)
	w.moved()

	counts, err := w.lab.traffic.readAccounts()
	if err != nil {
		t.Fatal(err)
	}
	var carried bpfCount
	for key, c := range counts {
		if w.lab.traffic.ledger.entryOf(key.iface()).name() == w.near.Device && key.Account == bpfAccountACCOUNT_CARRIED {
			carried = plus(carried, c)
		}
	}
	const frames = times * segments
	want := quantity{frames, uint64(frames * (1000 + outer4 + udp + tunnels[0].around))}
	if diff := cmp.Diff(want, quantity{carried.Frames, carried.FrameBytes}, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("frames differ (-want +got):\n%s", diff)
	}
}
