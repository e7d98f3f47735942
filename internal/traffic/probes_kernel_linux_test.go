// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestKernelCreditsProbes sends packets with a TTL of one hop, like traceroute, which the router answers. The answer to a datagram
// reaches no socket as a packet. The answer to an echo request reaches the raw socket that sent it.
func TestKernelCreditsProbes(t *testing.T) {
	const probes = 10
	w := connect(t, share(t))
	w.addRoute(t)
	end := netip.MustParseAddr("10.216.0.2")
	for name, test := range map[string]struct {
		send     func(t *testing.T)
		bytes    uint64 // of a probe
		answered string // account
	}{
		"of UDP":  {func(t *testing.T) { w.probe(t, end, probes) }, 14 + 20 + 8 + 32, "receive unclaimed"},
		"of ICMP": {func(t *testing.T) { w.probeByEcho(t, end, probes) }, 14 + 20 + 8 + 32, "receive process"},
	} {
		t.Run(name, func(t *testing.T) {
			w.mark()
			test.send(t)
			answers := quantity{probes, probes * (test.bytes + 20 + 8)}
			w.arrived(t, w.near, answers.bytes)

			near, far, _ := w.moved()
			want := map[string]quantity{"transmit process": {probes, probes * test.bytes}, test.answered: answers}
			if diff := cmp.Diff(want, near, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("the sender's accounts differ (-want +got):\n%s", diff)
			}
			want = map[string]quantity{"receive unclaimed": {probes, probes * test.bytes}, "transmit kernel": answers}
			if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("the router's accounts differ (-want +got):\n%s", diff)
			}
		})
	}
}

// probe sends datagrams of 32 bytes to an address behind the far end, which do not arrive there.
func (w *wire) probe(t *testing.T, to netip.Addr, n int) {
	t.Helper()
	var from *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	setOption(t, from, unix.IPPROTO_IP, unix.IP_TTL, 1)
	for port := range n {
		if _, err := from.WriteTo(make([]byte, 32), &net.UDPAddr{IP: to.AsSlice(), Port: 33434 + port}); err != nil {
			t.Fatal(err)
		}
	}
}

// probeByEcho sends the same number of echo requests.
func (w *wire) probeByEcho(t *testing.T, to netip.Addr, n int) {
	t.Helper()
	var from *net.IPConn
	w.inNear(func() {
		var err error
		if from, err = net.ListenIP("ip4:icmp", &net.IPAddr{IP: w.near.IPv4.AsSlice()}); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { from.Close() })
	setOption(t, from, unix.IPPROTO_IP, unix.IP_TTL, 1)
	message := append([]byte{8}, make([]byte, 7+32)...)
	check := checksum(message)
	message[2], message[3] = byte(check>>8), byte(check)
	for range n {
		if _, err := from.WriteTo(message, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
}
