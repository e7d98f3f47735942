// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"errors"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func TestKernelKnowsKinds(t *testing.T) {
	r := read(t, New())
	home, _ := kerneltest.Namespaces(t)
	kerneltest.Inhabit(t, home.Name)
	local, remote := net.IPv4(10, 213, 1, 1), net.IPv4(10, 213, 1, 2)
	local6, remote6 := net.ParseIP("fd13::1"), net.ParseIP("fd13::2")
	on := netlink.LinkAttrs{Name: "x", ParentIndex: home.Index}
	alone := netlink.LinkAttrs{Name: "x"}
	for _, test := range []struct {
		link    netlink.Link
		kind    string
		stacked bool
	}{
		{netlink.NewLinkBond(alone), "bond", true},
		{&netlink.Bridge{LinkAttrs: alone}, "bridge", true},
		{&netlink.Geneve{LinkAttrs: alone, ID: 7, Remote: remote}, "geneve", true},
		{&netlink.Gretun{LinkAttrs: alone, Local: local, Remote: remote}, "gre", true},
		{&netlink.Gretap{LinkAttrs: alone, Local: local, Remote: remote}, "gretap", true},
		{&netlink.Ip6tnl{LinkAttrs: alone, Local: local6, Remote: remote6}, "ip6tnl", true},
		{&netlink.Iptun{LinkAttrs: alone, Local: local, Remote: remote}, "ipip", true},
		{&netlink.IPVlan{LinkAttrs: on, Mode: netlink.IPVLAN_MODE_L2}, "ipvlan", true},
		{&netlink.Macvlan{LinkAttrs: on, Mode: netlink.MACVLAN_MODE_BRIDGE}, "macvlan", true},
		{&netlink.Sittun{LinkAttrs: alone, Local: local, Remote: remote}, "sit", true},
		{&netlink.Vlan{LinkAttrs: on, VlanId: 7, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}, "vlan", true},
		{&netlink.Vrf{LinkAttrs: alone, Table: 77}, "vrf", true},
		{&netlink.Vxlan{LinkAttrs: alone, VxlanId: 7, Group: remote, Port: 4789}, "vxlan", true},
		{&netlink.Wireguard{LinkAttrs: alone}, "wireguard", true},

		{&netlink.Dummy{LinkAttrs: alone}, "dummy", false},
		{&netlink.Ifb{LinkAttrs: alone}, "ifb", false},
		{&netlink.Tuntap{LinkAttrs: alone, Mode: netlink.TUNTAP_MODE_TUN}, "tun", false},
		{&netlink.Tuntap{LinkAttrs: alone, Mode: netlink.TUNTAP_MODE_TAP}, "tun", false},
		{&netlink.Veth{LinkAttrs: alone, PeerName: "y"}, "veth", false},
	} {
		name := test.kind
		if tuntap, ok := test.link.(*netlink.Tuntap); ok && tuntap.Mode == netlink.TUNTAP_MODE_TAP {
			name = "tap"
		}
		t.Run(name, func(t *testing.T) {
			kerneltest.InNamespace(t, home.Name, func() { add(t, test.link) })
			got := r.found(t, home.Name)["x"]
			if diff := cmp.Diff(device{test.kind, test.stacked}, got); diff != "" {
				t.Errorf("the device differs (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("lo", func(t *testing.T) {
		if got := r.found(t, home.Name)["lo"]; got != (device{}) {
			t.Errorf("lo is %+v", got)
		}
	})
}

// add makes a link in the current namespace, which is deleted at the end of the test.
func add(t *testing.T, link netlink.Link) {
	t.Helper()
	err := netlink.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) { // of /dev/net/tun
		t.Skipf("this kernel has no %s: %v", link.Type(), err)
	}
	if err != nil {
		t.Fatalf("make %s: %v", link.Type(), err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer handle.Close()
		if err := handle.LinkDel(link); err != nil {
			t.Errorf("delete %s: %v", link.Type(), err)
		}
	})
}

func TestKernelSeesNoBridgeChange(t *testing.T) {
	r := read(t, New())
	home, _ := kerneltest.Namespaces(t)
	kerneltest.Inhabit(t, home.Name)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	kerneltest.InNamespace(t, home.Name, func() { add(t, bridge) })
	empty := r.found(t, home.Name)["br0"]
	kerneltest.InNamespace(t, home.Name, func() {
		port, err := netlink.LinkByName(home.Device)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetMaster(port, bridge); err != nil {
			t.Fatal(err)
		}
	})
	if got := r.found(t, home.Name)["br0"]; got != empty || got != (device{"bridge", true}) {
		t.Errorf("a bridge is %+v without ports and %+v with one", empty, got)
	}
}
