// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// slow lets a device of the current namespace send 70 kB at once. Packets beyond that wait, and a timer sends
// them.
func slow(t *testing.T, device string) {
	t.Helper()
	limit(t, device, 4<<20)
}

// limit does the same, but only so many bytes can wait. What is beyond that is discarded.
func limit(t *testing.T, device string, waiting uint32) {
	t.Helper()
	link := linkOf(t, device)
	err := netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       2_000_000, // bytes a second
		Limit:      waiting,
		Buffer:     netlink.Xmittime(2_000_000, 70_000),
	})
	if err != nil {
		t.Fatalf("slow down %s: %v", device, err)
	}
}

// burst sends n datagrams of 1000 bytes at once and waits until all of them are received.
func burst(t *testing.T, from *net.UDPConn, receiver *net.UDPConn, n int) {
	t.Helper()
	setOption(t, from, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
	setOption(t, receiver, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	for range n {
		if _, err := from.WriteTo(make([]byte, 1000), receiver.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, receiver, 1000*n)
}

// TestKernelCreditsWhatWaitsBelow has packets that wait below the device on which they are counted for the process. They are sent later, in
// whatever context, and must be carried all the same.
func TestKernelCreditsWhatWaitsBelow(t *testing.T) {
	const packets = 300
	l := share(t)
	for name, test := range map[string]struct {
		above  func(t *testing.T, w *wire) (near, far netip.Addr, farNamespace string)
		around int
	}{
		"a tunnel": {func(t *testing.T, w *wire) (near, far netip.Addr, farNamespace string) {
			near, far = w.digTunnel(t, tunnels[0], 0)
			return near, far, w.far.Name
		}, tunnels[0].around},
		"a macvlan of another namespace": {func(t *testing.T, w *wire) (near, far netip.Addr, farNamespace string) {
			pod, address := w.addMacvlan(t, "mac0")
			return w.near.IPv4, address, pod
		}, ethernet},
		"a bridge": {func(t *testing.T, w *wire) (near, far netip.Addr, farNamespace string) {
			w.addBridge(t, "br0")
			return netip.MustParseAddr("10.214.0.1"), netip.MustParseAddr("10.214.0.2"), w.far.Name
		}, ethernet},
		"a VLAN": {func(t *testing.T, w *wire) (near, far netip.Addr, farNamespace string) {
			near, far = netip.MustParseAddr("10.219.0.1"), netip.MustParseAddr("10.219.0.2")
			w.addVLAN(t, w.near.Name, w.near.Device, netip.PrefixFrom(near, 24))
			w.addVLAN(t, w.far.Name, w.far.Device, netip.PrefixFrom(far, 24))
			w.acquaint(t, w.near.Name, w.near.Device+".7", near, w.far.Name, w.far.Device+".7", far)
			return near, far, w.far.Name
		}, ethernet},
		"MACsec": {func(t *testing.T, w *wire) (near, far netip.Addr, farNamespace string) {
			near, far = netip.MustParseAddr("10.221.0.1"), netip.MustParseAddr("10.221.0.2")
			w.addMACsec(t, near, far)
			return near, far, w.far.Name
		}, aroundMACsec},
		"an interface of xfrm": {func(t *testing.T, w *wire) (near, far netip.Addr, farNamespace string) {
			near, far = w.addXFRM(t)
			return near, far, w.far.Name
		}, aroundXFRM},
	} {
		t.Run(name, func(t *testing.T) {
			sighted(t, l, func(w *wire) bool {
				near, far, namespace := test.above(t, w)
				w.inFar(func() { slow(t, w.far.Device) })
				var from, receiver *net.UDPConn
				kerneltest.InNamespace(t, namespace, func() { from = datagrams(t, far, 0) })
				w.inNear(func() { receiver = datagrams(t, near, 0) })
				w.mark()
				burst(t, from, receiver, packets)
				if !w.sawAll() {
					return false
				}

				_, got, _ := w.moved()
				want := map[string]quantity{"transmit carried": {packets, uint64(packets * (1028 + test.around))}}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(quantity{})); diff != "" {
					t.Errorf("the accounts below differ (-want +got):\n%s", diff)
				}
				return true
			})
		})
	}
}

// TestKernelSubtractsWhatADeviceRefuses has a VLAN that refuses packets, because no more of them can wait for the device below.
func TestKernelSubtractsWhatADeviceRefuses(t *testing.T) {
	const packets = 300
	near, far := netip.MustParseAddr("10.219.0.1"), netip.MustParseAddr("10.219.0.2")
	l := share(t)
	w := connect(t, l)
	vlan := w.far.Device + ".7"
	w.addVLAN(t, w.near.Name, w.near.Device, netip.PrefixFrom(near, 24))
	w.addVLAN(t, w.far.Name, w.far.Device, netip.PrefixFrom(far, 24))
	w.acquaint(t, w.near.Name, w.near.Device+".7", near, w.far.Name, vlan, far)
	var from, receiver *net.UDPConn
	w.inNear(func() { receiver = datagrams(t, near, 0) })
	w.inFar(func() {
		from = datagrams(t, far, 0)
		limit(t, w.far.Device, 3000)
	})
	setOption(t, from, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20)
	for range packets {
		if _, err := from.WriteTo(make([]byte, 1000), receiver.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}

	var refused uint64
	w.inFar(func() { refused = linkOf(t, vlan).Attrs().Statistics.TxDropped })
	if refused == 0 || refused >= packets {
		t.Fatalf("the VLAN has refused %d of %d packets, want some of them", refused, packets)
	}
	l.requireAccounts(t, w.far.Name, vlan, interfaceAccounts{
		Accounts: map[string]quantity{"transmit process": {packets - refused, (packets - refused) * 1042}},
		Stacked:  true,
	})
}

// TestKernelNoticesForwarding has a host that begins to forward. From the next collection on, all forwarded packets must be claimed as soon
// as they arrive, and before that, those that did not have to wait.
func TestKernelNoticesForwarding(t *testing.T) {
	w := connect(t, observe(t, owner.Options{MaxProcesses: 4096}))
	end := w.addRoute(t)
	claims := func() bool {
		return slices.ContainsFunc(w.lab.recorder.Read().Hooks, func(h kernel.Hook) bool {
			return slices.Contains(h.Programs, "claim_forwarded")
		})
	}
	if claims() && !forwards("") {
		t.Error("each packet is looked at, though nothing is forwarded")
	}
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	kerneltest.InNamespace(t, end, func() { receiver = datagrams(t, netip.MustParseAddr("10.216.0.2"), 0) })
	burst(t, from, receiver, 1)
	w.moved()
	w.lab.collect(t)
	if !claims() {
		t.Error("nothing claims what is forwarded")
	}
	w.inFar(func() { slow(t, "port0") })
	burst(t, from, receiver, 300)

	_, far, _ := w.moved()
	if diff := cmp.Diff(map[string]quantity{"receive forwarded": {301, 301 * 1042}}, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the router's accounts differ (-want +got):\n%s", diff)
	}
}

// TestKernelCreditsWhatIsForwardedUnderLoad requires that a forwarded packet is claimed although it waits behind hundreds of others, and although it
// is sent as several packets.
func TestKernelCreditsWhatIsForwardedUnderLoad(t *testing.T) {
	const packets, atOnce = 400, 20
	sighted(t, share(t), func(w *wire) bool {
		end := w.addRoute(t)
		w.inFar(func() {
			slow(t, "port0")
			if err := netlink.LinkSetGSOMaxSegs(linkOf(t, "port0"), 1); err != nil {
				t.Fatal(err)
			}
		})
		var from, receiver *net.UDPConn
		w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
		kerneltest.InNamespace(t, end, func() { receiver = datagrams(t, netip.MustParseAddr("10.216.0.2"), 0) })
		burst(t, from, receiver, packets)
		setOption(t, from, unix.SOL_UDP, unix.UDP_SEGMENT, 1000)
		for range 10 {
			if _, err := from.WriteTo(make([]byte, 1000*atOnce), receiver.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		receive(t, receiver, 10*1000*atOnce)
		if !w.sawAll("port0") {
			return false
		}

		w.lab.requireAccounts(t, w.far.Name, "port0", interfaceAccounts{
			Accounts: map[string]quantity{"transmit forwarded": {packets + 10*atOnce, (packets + 10*atOnce) * 1042}},
		})
		_, far, _ := w.moved()
		want := map[string]quantity{"receive forwarded": {packets + 10, packets*1042 + 10*(1000*atOnce+42)}}
		if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
			t.Errorf("the router's accounts differ (-want +got):\n%s", diff)
		}
		return true
	})
}
