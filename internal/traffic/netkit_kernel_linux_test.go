// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelCarriesInNetkit uses a netkit pair, which is like a veth pair: what one end sends, the other one receives, and on each
// end it is counted for the process. There is no device below, and the wire carries nothing of it.
func TestKernelCarriesInNetkit(t *testing.T) {
	w := connect(t, share(t))
	near, far := netip.MustParseAddr("10.220.0.1"), netip.MustParseAddr("10.220.0.2")
	const device = "netkit"
	w.inNear(func() {
		handle, err := netns.GetFromName(w.far.Name)
		if err != nil {
			t.Fatal(err)
		}
		defer handle.Close()
		link := &netlink.Netkit{LinkAttrs: netlink.LinkAttrs{Name: device}, Mode: netlink.NETKIT_MODE_L3}
		link.SetPeerAttrs(&netlink.LinkAttrs{Name: device, Namespace: netlink.NsFd(int(handle))})
		addLink(t, w.near.Name, link)
	})
	w.settle(t, w.near.Name, device, netip.PrefixFrom(near, 24))
	w.settle(t, w.far.Name, device, netip.PrefixFrom(far, 24))
	w.mark()
	w.exchange(t, near, far, 100, 50)

	for _, end := range []struct {
		kerneltest.Namespace
		sent, received uint64
	}{{w.near, 100, 50}, {w.far, 50, 100}} {
		counted := counterOf(t, end.Name, device)
		w.lab.requireAccounts(t, end.Name, device, interfaceAccounts{
			Accounts: map[string]quantity{
				"transmit process": {end.sent, counted[bpfDirectionTRANSMIT].bytes},
				"receive process":  {end.received, counted[bpfDirectionRECEIVE].bytes},
			},
			Stacked: true,
		})
	}
	onWire, _, _ := w.moved()
	if diff := cmp.Diff(map[string]quantity{}, onWire, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the wire's accounts differ (-want +got):\n%s", diff)
	}
}
