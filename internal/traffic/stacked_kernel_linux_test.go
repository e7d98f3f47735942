// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// interfaceAccounts has what an interface's accounts must be, and what it has counted in addition:
// packets transmitted and received, bytes transmitted and received.
type interfaceAccounts struct {
	Accounts   map[string]quantity
	Unobserved []int64
	Stacked    bool
}

// requireAccounts waits until the accounts of an interface are as wanted. The interface must be younger
// than the instrument, and in a namespace with a process.
func (l *lab) requireAccounts(t *testing.T, namespace, device string, want interfaceAccounts) {
	t.Helper()
	if want.Unobserved == nil {
		want.Unobserved = []int64{0, 0, 0, 0}
	}
	at := in(t, namespace, device)
	eventually(t, "the accounts of "+device+" are right", func() string {
		published := l.collect(t)
		got := interfaceAccounts{Accounts: published.accounts(at), Unobserved: published.unobserved(at), Stacked: published.isStacked(at)}
		return cmp.Diff(want, got, cmp.AllowUnexported(quantity{}))
	})
}

func (p publication) isStacked(at place) bool {
	for _, point := range p {
		if stacked, ok := point.attributes["nettap.interface.stacked"].(bool); ok && point.place() == at {
			return stacked
		}
	}
	return false
}

func TestKernelCreditsMacvlanOnItAlone(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	pod, address := w.addMacvlan(t, "mac0")
	w.requireOnPodAlone(t, pod, "mac0", address)
}

func TestKernelCreditsIPvlanOnItAlone(t *testing.T) {
	w := connect(t, share(t))
	attributes := netlink.LinkAttrs{Name: "ipv0", ParentIndex: w.far.Index}
	pod, address := w.addPod(t, &netlink.IPVlan{LinkAttrs: attributes, Mode: netlink.IPVLAN_MODE_L2})
	w.requireOnPodAlone(t, pod, "ipv0", address)
}

// TestKernelCreditsVRF has a socket of a VRF, which does not send through the VRF's device, but receives through it.
func TestKernelCreditsVRF(t *testing.T) {
	w := connect(t, share(t))
	w.inFar(func() {
		addLink(t, w.far.Name, &netlink.Vrf{LinkAttrs: netlink.LinkAttrs{Name: "vrf0"}, Table: 213})
	})
	w.settle(t, w.far.Name, "vrf0")
	w.inFar(func() {
		if err := netlink.LinkSetMaster(linkOf(t, w.far.Device), linkOf(t, "vrf0")); err != nil {
			t.Fatal(err)
		}
	})
	w.introduce(w.far, w.near) // the device forgot its neighbour when it was put into the VRF
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	w.inFar(func() {
		listen := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { _ = unix.BindToDevice(int(fd), "vrf0") })
		}}
		conn, err := listen.ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(w.far.IPv4, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		receiver = conn.(*net.UDPConn)
		t.Cleanup(func() { receiver.Close() })
	})
	w.mark()
	sendTo(t, from, receiver.LocalAddr(), 100, 1000, receiver)
	sendTo(t, receiver, from.LocalAddr(), 50, 1000, from)

	_, far, published := w.moved()
	want := map[string]quantity{
		"receive carried":  {100, 100 * 1042},
		"transmit process": {50, 50 * 1042},
	}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the lower device's accounts differ (-want +got):\n%s", diff)
	}
	if got := published.accounts(in(t, w.far.Name, "vrf0"))["receive process"].packets; got != 100 {
		t.Errorf("the process received %d packets from the VRF, want 100", got)
	}
}

// requireOnPodAlone requires that what a process in a pod sends and receives is counted for it on the
// pod's device, and carried by the far end's device.
func (w *wire) requireOnPodAlone(t *testing.T, pod, device string, address netip.Addr) {
	t.Helper()
	l := w.lab
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	kerneltest.InNamespace(t, pod, func() { receiver = datagrams(t, address, 0) })
	sendTo(t, from, receiver.LocalAddr(), 100, 1000, receiver)
	sendTo(t, receiver, from.LocalAddr(), 50, 4000, from)

	both := map[string]quantity{
		"receive process":  {100, 100 * 1042},
		"transmit process": {150, 50 * (4008 + 3*34)},
	}
	l.requireAccounts(t, pod, device, interfaceAccounts{Accounts: both, Stacked: true})
	_, far, _ := w.moved()
	carried := map[string]quantity{
		"receive carried":  both["receive process"],
		"transmit carried": both["transmit process"],
	}
	if diff := cmp.Diff(carried, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the lower device's accounts differ (-want +got):\n%s", diff)
	}
}

// TestKernelSaysWhatIsUnobservedOnMacvlan requires that packets that the kernel itself receives on a macvlan, which no hook sees there, are in
// the accounts of the lower device and unobserved on the macvlan.
func TestKernelSaysWhatIsUnobservedOnMacvlan(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	pod, address := w.addMacvlan(t, "mac0")
	w.ping(t, 10, 56, address)

	l.requireAccounts(t, pod, "mac0", interfaceAccounts{
		Accounts:   map[string]quantity{"transmit kernel": {10, 10 * 98}},
		Unobserved: []int64{0, 10, 0, 10 * 98},
		Stacked:    true,
	})
	_, far, _ := w.moved()
	want := map[string]quantity{
		"receive unclaimed": {10, 10 * 98},
		"transmit kernel":   {10, 10 * 98},
	}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the lower device's accounts differ (-want +got):\n%s", diff)
	}
}

func TestKernelCreditsBridgeAndItsPorts(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	end := w.addBridge(t, "br0")

	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, netip.MustParseAddr("10.214.0.1"), 0) })
	w.inFar(func() { receiver = datagrams(t, netip.MustParseAddr("10.214.0.2"), 0) })
	sendTo(t, from, receiver.LocalAddr(), 100, 1000, receiver)
	sendTo(t, receiver, from.LocalAddr(), 50, 1000, from)
	kerneltest.InNamespace(t, end, func() { receiver = datagrams(t, netip.MustParseAddr("10.214.0.3"), 0) })
	sendTo(t, from, receiver.LocalAddr(), 30, 1000, receiver)

	l.requireAccounts(t, w.far.Name, "br0", interfaceAccounts{
		Accounts: map[string]quantity{
			"receive process":  {100, 100 * 1028}, // a bridge counts no link header here
			"transmit process": {50, 50 * 1042},
		},
		Stacked: true,
	})
	l.requireAccounts(t, w.far.Name, "port0", interfaceAccounts{
		Accounts: map[string]quantity{"transmit forwarded": {30, 30 * 1042}},
	})
	_, far, _ := w.moved()
	want := map[string]quantity{
		"receive carried":   {100, 100 * 1042},
		"receive forwarded": {30, 30 * 1042},
		"transmit carried":  {50, 50 * 1042},
	}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the port's accounts differ (-want +got):\n%s", diff)
	}
}

func TestKernelCreditsTunnelInAndOut(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	near, far := netip.MustParseAddr("10.215.0.1"), netip.MustParseAddr("10.215.0.2")
	w.addTunnel(t, "vx0", near, far)

	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, near, 0) })
	w.inFar(func() { receiver = datagrams(t, far, 0) })
	sendTo(t, from, receiver.LocalAddr(), 100, 1000, receiver)

	// A tunnel counts no link header.
	l.requireAccounts(t, w.near.Name, "vx0", interfaceAccounts{
		Accounts: map[string]quantity{"transmit process": {100, 100 * 1028}},
		Stacked:  true,
	})
	l.requireAccounts(t, w.far.Name, "vx0", interfaceAccounts{
		Accounts: map[string]quantity{"receive process": {100, 100 * 1028}},
		Stacked:  true,
	})
	gotNear, gotFar, _ := w.moved()
	if diff := cmp.Diff(map[string]quantity{"transmit carried": {100, 100 * 1092}}, gotNear, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the outer device's accounts differ at the near end (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]quantity{"receive carried": {100, 100 * 1092}}, gotFar, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the outer device's accounts differ at the far end (-want +got):\n%s", diff)
	}
}

func TestKernelCreditsWhatIsForwarded(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	end := w.addRoute(t)

	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	kerneltest.InNamespace(t, end, func() { receiver = datagrams(t, netip.MustParseAddr("10.216.0.2"), 0) })
	sendTo(t, from, receiver.LocalAddr(), 100, 1000, receiver)
	sendTo(t, from, receiver.LocalAddr(), 20, 4000, receiver)

	const packets, bytes = 100 + 60, 100*1042 + 20*(4008+3*34)
	l.requireAccounts(t, w.far.Name, "port0", interfaceAccounts{
		Accounts: map[string]quantity{"transmit forwarded": {packets, bytes}},
	})
	_, far, _ := w.moved()
	if diff := cmp.Diff(map[string]quantity{"receive forwarded": {packets, bytes}}, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the router's accounts differ (-want +got):\n%s", diff)
	}
}

// TestKernelCreditsVLANOnBond sends over a VLAN on a bond, which are three devices. Each of them has what is sent. What is received
// is not seen on the one in the middle.
func TestKernelCreditsVLANOnBond(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	end := w.addBond(t)

	exchange := func(here, there string, received, sent int) {
		var from, receiver *net.UDPConn
		kerneltest.InNamespace(t, end, func() { from = datagrams(t, netip.MustParseAddr(there), 0) })
		w.inFar(func() { receiver = datagrams(t, netip.MustParseAddr(here), 0) })
		sendTo(t, from, receiver.LocalAddr(), received, 1000, receiver)
		sendTo(t, receiver, from.LocalAddr(), sent, 1000, from)
	}
	exchange("10.218.0.2", "10.218.0.1", 100, 50)
	bond := map[string]quantity{
		"receive process":  {100, 100 * 1042},
		"transmit process": {50, 50 * 1042},
	}
	l.requireAccounts(t, w.far.Name, "port0", interfaceAccounts{Accounts: map[string]quantity{
		"receive carried":  {100, 100 * 1042},
		"transmit carried": {50, 50 * 1042},
	}})
	l.requireAccounts(t, w.far.Name, "bond0", interfaceAccounts{Accounts: bond, Stacked: true})

	exchange("10.219.0.2", "10.219.0.1", 30, 20)
	l.requireAccounts(t, w.far.Name, "port0", interfaceAccounts{Accounts: map[string]quantity{
		"receive carried":  {130, 130 * 1042},
		"transmit carried": {70, 70 * 1042},
	}})
	l.requireAccounts(t, w.far.Name, "bond0", interfaceAccounts{
		Accounts: map[string]quantity{
			"receive process":  {100, 100 * 1042},
			"transmit process": {50, 50 * 1042},
			"transmit carried": {20, 20 * 1042},
		},
		Unobserved: []int64{0, 30, 0, 30 * 1042},
		Stacked:    true,
	})
	l.requireAccounts(t, w.far.Name, "bond0.7", interfaceAccounts{
		Accounts: map[string]quantity{
			"receive process":  {30, 30 * 1028}, // a VLAN counts no link header here
			"transmit process": {20, 20 * 1042},
		},
		Stacked: true,
	})
}

// TestKernelCreditsTeam uses a team, which is like a bond with another driver.
func TestKernelCreditsTeam(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	end := w.addTeam(t)
	var from, receiver *net.UDPConn
	kerneltest.InNamespace(t, end, func() { from = datagrams(t, netip.MustParseAddr("10.218.0.1"), 0) })
	w.inFar(func() { receiver = datagrams(t, netip.MustParseAddr("10.218.0.2"), 0) })
	sendTo(t, from, receiver.LocalAddr(), 100, 1000, receiver)
	sendTo(t, receiver, from.LocalAddr(), 50, 1000, from)

	l.requireAccounts(t, w.far.Name, "port0", interfaceAccounts{Accounts: map[string]quantity{
		"receive carried":  {100, 100 * 1042},
		"transmit carried": {50, 50 * 1042},
	}})
	l.requireAccounts(t, w.far.Name, "team0", interfaceAccounts{
		Accounts: map[string]quantity{
			"receive process":  {100, 100 * 1028}, // a team counts no link header here
			"transmit process": {50, 50 * 1042},
		},
		Stacked: true,
	})
}

// TestKernelCreditsABridgeUnderOneName requires that the attributes of an interface do not change when another one is put on it.
func TestKernelCreditsABridgeUnderOneName(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	w.inFar(func() {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
			t.Fatalf("make bridge: %v", err)
		}
	})
	far := netip.MustParseAddr("10.214.0.2")
	w.settle(t, w.far.Name, "br0", netip.PrefixFrom(far, 24))
	var from *net.UDPConn
	w.inFar(func() {
		knowNeighbour(t, linkOf(t, "br0").Attrs().Index, netip.MustParseAddr("10.214.0.1"), linkOf(t, w.far.Device).Attrs().HardwareAddr)
		from = datagrams(t, far, 0)
	})
	send := func(n int) {
		for range n {
			if _, err := from.WriteTo(make([]byte, 1000), &net.UDPAddr{IP: net.IPv4(10, 214, 0, 1), Port: 9}); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(10) // before the bridge has a port
	l.requireAccounts(t, w.far.Name, "br0", interfaceAccounts{
		Accounts: map[string]quantity{"transmit process": {10, 10 * 1042}}, Stacked: true,
	})
	w.inFar(func() {
		if err := netlink.LinkSetMaster(linkOf(t, w.far.Device), linkOf(t, "br0")); err != nil {
			t.Fatal(err)
		}
	})
	send(5)
	l.requireAccounts(t, w.far.Name, "br0", interfaceAccounts{
		Accounts: map[string]quantity{"transmit process": {15, 15 * 1042}}, Stacked: true,
	})
}

func TestKernelCreditsATunnelOnNoDevice(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	near := netip.MustParseAddr("10.215.0.1")
	w.inNear(func() {
		addLink(t, w.near.Name, &netlink.Vxlan{
			LinkAttrs: netlink.LinkAttrs{Name: "vx0"}, VxlanId: 213, Group: w.far.IPv4.AsSlice(), Port: 4789,
		})
	})
	w.settle(t, w.near.Name, "vx0", netip.PrefixFrom(near, 24))
	w.acquaint(t, w.far.Name, w.far.Device, near.Next(), w.near.Name, "vx0", near.Next())
	var from *net.UDPConn
	w.inNear(func() { from = datagrams(t, near, 0) })
	for range 10 {
		if _, err := from.WriteTo(make([]byte, 1000), &net.UDPAddr{IP: near.Next().AsSlice(), Port: 9}); err != nil {
			t.Fatal(err)
		}
	}
	l.requireAccounts(t, w.near.Name, "vx0", interfaceAccounts{
		Accounts: map[string]quantity{"transmit process": {10, 10 * 1028}}, Stacked: true,
	})
}
