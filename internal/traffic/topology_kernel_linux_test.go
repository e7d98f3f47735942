// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// addMacvlan puts a macvlan of the far end's device into a namespace of its own.
func (w *wire) addMacvlan(t *testing.T, name string) (namespace string, address netip.Addr) {
	t.Helper()
	attributes := netlink.LinkAttrs{Name: name, ParentIndex: w.far.Index}
	return w.addPod(t, &netlink.Macvlan{LinkAttrs: attributes, Mode: netlink.MACVLAN_MODE_BRIDGE})
}

// addPod puts a device above the far end's device into a namespace of its own, as for a container. It tells
// this device and the near end each other's link address.
func (w *wire) addPod(t *testing.T, link netlink.Link) (namespace string, address netip.Addr) {
	t.Helper()
	namespace = inhabited(t)
	four := w.near.IPv4.As4()
	four[3] = 3
	address = netip.AddrFrom4(four)
	name := link.Attrs().Name
	w.inFar(func() { addLink(t, namespace, link) })
	w.settle(t, namespace, name, netip.PrefixFrom(address, 24))
	w.acquaint(t, w.near.Name, w.near.Device, w.near.IPv4, namespace, name, address)
	return namespace, address
}

// addBridge joins the far end's device and a veth, port0, by a bridge that is
// 10.214.0.2. The near end becomes 10.214.0.1; the other end of the veth is in
// the namespace returned, and is 10.214.0.3.
func (w *wire) addBridge(t *testing.T, name string) (namespace string) {
	t.Helper()
	namespace = inhabited(t)
	w.addVeth(t, namespace)
	w.inFar(func() {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
		if err := netlink.LinkAdd(bridge); err != nil {
			t.Fatalf("make bridge: %v", err)
		}
		for _, port := range []string{w.far.Device, "port0"} {
			if err := netlink.LinkSetMaster(linkOf(t, port), bridge); err != nil {
				t.Fatalf("make %s a port of the bridge: %v", port, err)
			}
		}
	})
	near, far, end := netip.MustParseAddr("10.214.0.1"), netip.MustParseAddr("10.214.0.2"), netip.MustParseAddr("10.214.0.3")
	w.settle(t, w.near.Name, w.near.Device, netip.PrefixFrom(near, 24))
	w.settle(t, w.far.Name, "port0")
	w.settle(t, w.far.Name, name, netip.PrefixFrom(far, 24))
	w.settle(t, namespace, "end0", netip.PrefixFrom(end, 24))
	w.inFar(func() { awaitCarrier(t, "port0") }) // until then the bridge blocks it
	w.acquaint(t, w.near.Name, w.near.Device, near, w.far.Name, name, far)
	w.acquaint(t, w.near.Name, w.near.Device, near, namespace, "end0", end)
	return namespace
}

// addRoute makes the far end a router to a namespace where 10.216.0.2 is.
func (w *wire) addRoute(t *testing.T) (namespace string) {
	t.Helper()
	namespace = inhabited(t)
	w.addVeth(t, namespace)
	port, end := netip.MustParseAddr("10.216.0.1"), netip.MustParseAddr("10.216.0.2")
	w.settle(t, w.far.Name, "port0", netip.PrefixFrom(port, 24))
	w.settle(t, namespace, "end0", netip.PrefixFrom(end, 24))
	w.acquaint(t, w.far.Name, "port0", port, namespace, "end0", end)
	w.inFar(func() { sysctl(t, "net/ipv4/ip_forward", "1") })
	w.inNear(func() { addRoute(t, "10.216.0.0/24", w.far.IPv4) })
	kerneltest.InNamespace(t, namespace, func() { addRoute(t, "10.213.0.0/16", port) })
	return namespace
}

// addBond makes the far end's port0 the port of a bond, bond0 at 10.218.0.2, and
// puts a VLAN on that, bond0.7 at 10.219.0.2. At the other end, in the namespace
// returned, are end0 at 10.218.0.1 and end0.7 at 10.219.0.1.
func (w *wire) addBond(t *testing.T) (namespace string) {
	t.Helper()
	namespace = inhabited(t)
	w.addVeth(t, namespace)
	w.inFar(func() {
		bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond0"})
		bond.Mode, bond.Miimon = netlink.BOND_MODE_BALANCE_RR, 10
		addLink(t, w.far.Name, bond)
		if err := netlink.LinkSetMaster(linkOf(t, "port0"), linkOf(t, "bond0")); err != nil {
			t.Fatalf("make port0 the bond's: %v", err)
		}
	})
	here, there := netip.MustParseAddr("10.218.0.2"), netip.MustParseAddr("10.218.0.1")
	w.settle(t, namespace, "end0", netip.PrefixFrom(there, 24))
	w.settle(t, w.far.Name, "bond0", netip.PrefixFrom(here, 24))
	w.acquaint(t, w.far.Name, "bond0", here, namespace, "end0", there)
	here, there = netip.MustParseAddr("10.219.0.2"), netip.MustParseAddr("10.219.0.1")
	w.addVLAN(t, namespace, "end0", netip.PrefixFrom(there, 24))
	w.addVLAN(t, w.far.Name, "bond0", netip.PrefixFrom(here, 24))
	w.acquaint(t, w.far.Name, "bond0.7", here, namespace, "end0.7", there)
	return namespace
}

// addTeam makes the far end's port0 the port of a team, team0 at 10.218.0.2. At the other
// end, in the namespace returned, is end0 at 10.218.0.1.
func (w *wire) addTeam(t *testing.T) (namespace string) {
	t.Helper()
	namespace = inhabited(t)
	w.addVeth(t, namespace)
	w.inFar(func() {
		addLink(t, w.far.Name, &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "team0"}, LinkType: "team"})
		takeTurns(t, "team0")
		sysctl(t, "net/ipv6/conf/port0/disable_ipv6", "1") // before Linux 6.2 a team's port has an address
		if err := netlink.LinkSetMaster(linkOf(t, "port0"), linkOf(t, "team0")); err != nil {
			t.Fatalf("make port0 the team's: %v", err)
		}
	})
	here, there := netip.MustParseAddr("10.218.0.2"), netip.MustParseAddr("10.218.0.1")
	w.settle(t, namespace, "end0", netip.PrefixFrom(there, 24))
	w.settle(t, w.far.Name, "team0", netip.PrefixFrom(here, 24))
	w.acquaint(t, w.far.Name, "team0", here, namespace, "end0", there)
	return namespace
}

// takeTurns sets the mode roundrobin of a team of the current namespace, which must not have a port yet.
//
// Source: include/uapi/linux/if_team.h.
func takeTurns(t *testing.T, device string) {
	t.Helper()
	const (
		commandSetOptions              = 1
		attributeIndex, attributeList  = 1, 2
		listItem                       = 1
		optionName, optionType, option = 1, 3, 4
		typeString                     = 5
	)
	list := nl.NewRtAttr(attributeList|unix.NLA_F_NESTED, nil)
	item := list.AddRtAttr(listItem|unix.NLA_F_NESTED, nil)
	item.AddRtAttr(optionName, nl.ZeroTerminated("mode"))
	item.AddRtAttr(optionType, nl.Uint8Attr(typeString))
	item.AddRtAttr(option, nl.ZeroTerminated("roundrobin"))
	generic(t, "team", commandSetOptions, nl.NewRtAttr(attributeIndex, nl.Uint32Attr(uint32(linkOf(t, device).Attrs().Index))), list)
}

// addVLAN puts a VLAN on a device.
func (w *wire) addVLAN(t *testing.T, namespace, device string, address netip.Prefix) {
	t.Helper()
	kerneltest.InNamespace(t, namespace, func() {
		attributes := netlink.LinkAttrs{Name: device + ".7", ParentIndex: linkOf(t, device).Attrs().Index}
		addLink(t, namespace, &netlink.Vlan{LinkAttrs: attributes, VlanId: 7, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
	})
	w.settle(t, namespace, device+".7", address)
}

// addTunnel makes a VXLAN tunnel through the wire.
func (w *wire) addTunnel(t *testing.T, name string, near, far netip.Addr) {
	t.Helper()
	add := func(here, there kerneltest.Namespace) {
		kerneltest.InNamespace(t, here.Name, func() {
			addLink(t, here.Name, &netlink.Vxlan{
				LinkAttrs:    netlink.LinkAttrs{Name: name},
				VxlanId:      213,
				VtepDevIndex: here.Index,
				SrcAddr:      here.IPv4.AsSlice(),
				Group:        there.IPv4.AsSlice(),
				Port:         4789,
				UDPCSum:      true,
			})
		})
	}
	add(w.near, w.far)
	add(w.far, w.near)
	w.settle(t, w.near.Name, name, netip.PrefixFrom(near, 24))
	w.settle(t, w.far.Name, name, netip.PrefixFrom(far, 24))
	w.acquaint(t, w.near.Name, name, near, w.far.Name, name, far)
}

// inhabited makes a namespace with a process in it, in addition to those of the wire.
func inhabited(t *testing.T) string {
	t.Helper()
	n, _ := kerneltest.Namespaces(t)
	kerneltest.Inhabit(t, n.Name)
	return n.Name
}

// addVeth joins the far end, by a device port0, to end0 in another namespace.
func (w *wire) addVeth(t *testing.T, namespace string) {
	t.Helper()
	peer, err := netns.GetFromName(namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "port0"})
	veth.PeerName = "end0"
	veth.PeerNamespace = netlink.NsFd(int(peer))
	w.inFar(func() {
		if err := netlink.LinkAdd(veth); err != nil {
			t.Fatalf("make veth pair: %v", err)
		}
	})
}

// addLink makes a link of the current namespace in another one.
func addLink(t *testing.T, namespace string, link netlink.Link) {
	t.Helper()
	handle, err := netns.GetFromName(namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	link.Attrs().Namespace = netlink.NsFd(int(handle))
	err = netlink.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("this kernel has no %s: %v", link.Type(), err)
	}
	if err != nil {
		t.Fatalf("make %s: %v", link.Type(), err)
	}
}

// settle brings up a device that sends nothing by itself.
func (w *wire) settle(t *testing.T, namespace, device string, addresses ...netip.Prefix) {
	t.Helper()
	kerneltest.InNamespace(t, namespace, func() {
		sysctl(t, "net/ipv6/conf/"+device+"/disable_ipv6", "1")
		link := linkOf(t, device)
		if err := netlink.LinkSetARPOff(link); err != nil {
			t.Fatalf("silence %s: %v", device, err)
		}
		if slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
			sysctl(t, "net/ipv6/conf/"+device+"/router_solicitations", "0")
			sysctl(t, "net/ipv6/conf/"+device+"/disable_ipv6", "0")
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatalf("set %s up: %v", device, err)
		}
		for _, address := range addresses {
			kerneltest.AddAddress(t, device, address)
		}
	})
}

// acquaint tells two neighbours each other's link addresses.
func (w *wire) acquaint(t *testing.T, namespace, device string, address netip.Addr,
	otherNamespace, otherDevice string, otherAddress netip.Addr,
) {
	t.Helper()
	var mac, otherMAC net.HardwareAddr
	kerneltest.InNamespace(t, namespace, func() {
		awaitCarrier(t, device)
		mac = linkOf(t, device).Attrs().HardwareAddr
	})
	kerneltest.InNamespace(t, otherNamespace, func() {
		awaitCarrier(t, otherDevice)
		link := linkOf(t, otherDevice)
		otherMAC = link.Attrs().HardwareAddr
		knowNeighbour(t, link.Attrs().Index, address, mac)
	})
	kerneltest.InNamespace(t, namespace, func() {
		knowNeighbour(t, linkOf(t, device).Attrs().Index, otherAddress, otherMAC)
	})
}

func addRoute(t *testing.T, network string, gateway netip.Addr) {
	t.Helper()
	prefix := netip.MustParsePrefix(network)
	err := netlink.RouteAdd(&netlink.Route{
		Dst: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)},
		Gw:  gateway.AsSlice(),
	})
	if err != nil {
		t.Fatalf("route %s by %v: %v", network, gateway, err)
	}
}

// linkOf returns a link of the current namespace.
func linkOf(t *testing.T, device string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatalf("find %s: %v", device, err)
	}
	return link
}

// awaitCarrier waits until a device of the current namespace can send. The state of a new veth is unknown
// until the kernel has checked its carrier. The state of a tunnel stays unknown.
func awaitCarrier(t *testing.T, device string) {
	t.Helper()
	for range 500 {
		link := linkOf(t, device)
		state := link.Attrs().OperState
		if state == netlink.OperUp || state == netlink.OperUnknown && link.Type() != "veth" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not come up", device)
}
