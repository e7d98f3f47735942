// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelCreditsWireGuard uses WireGuard, which encrypts and decrypts on other CPUs. What it sends for a process must be carried below
// it. What it receives cannot be related to the packet inside, and must be on the account kernel.
func TestKernelCreditsWireGuard(t *testing.T) {
	const (
		there, back = 100, 50
		around      = ethernet + outer4 + udp + 32
		below       = (1028+15)/16*16 + around // it pads what it encrypts
	)
	w := connect(t, share(t))
	near, far := netip.MustParseAddr("10.217.0.1"), netip.MustParseAddr("10.217.0.2")
	keys := []wgtypes.Key{must(wgtypes.GeneratePrivateKey()), must(wgtypes.GeneratePrivateKey())}
	w.addWireGuard(t, w.near, w.far, near, keys[0], keys[1].PublicKey())
	w.addWireGuard(t, w.far, w.near, far, keys[1], keys[0].PublicKey())
	w.exchange(t, near, far, 1, 1) // the ends make their handshake
	w.mark()
	before := w.lab.collect(t)
	w.exchange(t, near, far, there, back)

	_, _, published := w.moved()
	at := in(t, w.near.Name, "wg0")
	want := map[string]quantity{"transmit process": {there, there * 1028}, "receive process": {back, back * 1028}}
	if diff := cmp.Diff(want, grown(before.accounts(at), published.accounts(at)), cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts of wg0 differ (-want +got):\n%s", diff)
	}
	for end, packets := range map[kerneltest.Namespace][2]uint64{w.near: {there, back}, w.far: {back, there}} {
		got := w.grown(end, published)
		if diff := cmp.Diff(quantity{packets[0], packets[0] * below}, got["transmit carried"], cmp.AllowUnexported(quantity{})); diff != "" {
			t.Errorf("what %s carried differs (-want +got):\n%s", end.Device, diff)
		}
		kept := got["receive kernel"].packets - packets[1] // it may have received keepalives
		if diff := cmp.Diff(packets[1]*below+kept*around, got["receive kernel"].bytes); diff != "" {
			t.Errorf("what %s received differs (-want +got):\n%s", end.Device, diff)
		}
		if unclaimed := got["receive unclaimed"]; unclaimed != (quantity{}) {
			t.Errorf("nobody claimed %+v of %s", unclaimed, end.Device)
		}
	}
}

// addWireGuard makes wg0 at one end of the wire.
func (w *wire) addWireGuard(t *testing.T, here, there kerneltest.Namespace, address netip.Addr, private, peer wgtypes.Key) {
	t.Helper()
	const port = 21300
	kerneltest.InNamespace(t, here.Name, func() {
		addLink(t, here.Name, &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}})
		client, err := wgctrl.New()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		listenAt := port
		err = client.ConfigureDevice("wg0", wgtypes.Config{PrivateKey: &private, ListenPort: &listenAt, Peers: []wgtypes.PeerConfig{{
			PublicKey:  peer,
			Endpoint:   &net.UDPAddr{IP: there.IPv4.AsSlice(), Port: port},
			AllowedIPs: []net.IPNet{{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
	})
	w.settle(t, here.Name, "wg0", netip.PrefixFrom(address, 24))
}
