// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKernelCreditsEveryPacket requires by how much each end's accounts grow, to the byte: only what the test sends is on the
// wire. Every frame has 14 bytes of Ethernet header, which the counters include.
func TestKernelCreditsEveryPacket(t *testing.T) {
	l := share(t)
	for name, test := range map[string]struct {
		run       func(t *testing.T, w *wire)
		near, far map[string]quantity
	}{
		"datagrams": {
			run:  func(t *testing.T, w *wire) { w.send(t, 100, 1000, w.far.IPv4) },
			near: map[string]quantity{"transmit process": {100, 100 * 1042}},
			far:  map[string]quantity{"receive process": {100, 100 * 1042}},
		},
		"datagrams over IPv6": {
			run:  func(t *testing.T, w *wire) { w.send(t, 100, 1000, w.far.IPv6) },
			near: map[string]quantity{"transmit process": {100, 100 * 1062}},
			far:  map[string]quantity{"receive process": {100, 100 * 1062}},
		},
		"segmented datagrams, cut for a receiver that takes them one by one": {
			run:  func(t *testing.T, w *wire) { w.sendSegmented(t, 50, 10, false) },
			near: map[string]quantity{"transmit process": {50, 50 * 10042}},
			far:  map[string]quantity{"receive process": {50, 50 * 10042}},
		},
		"segmented datagrams for a receiver that takes them whole": {
			run:  func(t *testing.T, w *wire) { w.sendSegmented(t, 50, 10, true) },
			near: map[string]quantity{"transmit process": {50, 50 * 10042}},
			far:  map[string]quantity{"receive process": {50, 50 * 10042}},
		},
		"fragments, each with its own header": {
			run:  func(t *testing.T, w *wire) { w.send(t, 20, 4000, w.far.IPv4) },
			near: map[string]quantity{"transmit process": {60, 20 * (4008 + 3*34)}},
			far:  map[string]quantity{"receive process": {60, 20 * (4008 + 3*34)}},
		},
		"fragments over IPv6": {
			run:  func(t *testing.T, w *wire) { w.send(t, 20, 4000, w.far.IPv6) },
			near: map[string]quantity{"transmit process": {60, 20 * (4008 + 3*62)}},
			far:  map[string]quantity{"receive process": {60, 20 * (4008 + 3*62)}},
		},
		"more fragments than there are slots for arrivals": {
			run:  func(t *testing.T, w *wire) { w.send(t, 5, 60000, w.far.IPv4) },
			near: map[string]quantity{"transmit process": {5 * 41, 5 * (60008 + 41*34)}},
			far:  map[string]quantity{"receive process": {5 * 41, 5 * (60008 + 41*34)}},
		},
		"an echo, which the kernel answers": {
			run: func(t *testing.T, w *wire) { w.ping(t, 10, 56, w.far.IPv4) },
			near: map[string]quantity{
				"transmit process": {10, 10 * 98},
				"receive process":  {10, 10 * 98},
			},
			far: map[string]quantity{
				"receive unclaimed": {10, 10 * 98},
				"transmit kernel":   {10, 10 * 98},
			},
		},
		"an echo over IPv6": {
			run: func(t *testing.T, w *wire) { w.ping(t, 10, 56, w.far.IPv6) },
			near: map[string]quantity{
				"transmit process": {10, 10 * 118},
				"receive process":  {10, 10 * 118},
			},
			far: map[string]quantity{
				"receive unclaimed": {10, 10 * 118},
				"transmit kernel":   {10, 10 * 118},
			},
		},
		"an echo in fragments": {
			run: func(t *testing.T, w *wire) { w.ping(t, 10, 4000, w.far.IPv4) },
			near: map[string]quantity{
				"transmit process": {30, 10 * (4008 + 3*34)},
				"receive process":  {30, 10 * (4008 + 3*34)},
			},
			far: map[string]quantity{
				"receive unclaimed": {30, 10 * (4008 + 3*34)},
				"transmit kernel":   {30, 10 * (4008 + 3*34)},
			},
		},
		"one multicast packet for three sockets": {
			run:  func(t *testing.T, w *wire) { w.multicast(t, 30, 500, 3) },
			near: map[string]quantity{"transmit process": {30, 30 * 542}},
			far:  map[string]quantity{"receive process": {30, 30 * 542}},
		},
		"multicast in fragments for three sockets": {
			run:  func(t *testing.T, w *wire) { w.multicast(t, 10, 4000, 3) },
			near: map[string]quantity{"transmit process": {30, 10 * (4008 + 3*34)}},
			far:  map[string]quantity{"receive process": {30, 10 * (4008 + 3*34)}},
		},
		"a broadcast": {
			run:  func(t *testing.T, w *wire) { w.broadcast(t, 30, 500) },
			near: map[string]quantity{"transmit process": {30, 30 * 542}},
			far:  map[string]quantity{"receive process": {30, 30 * 542}},
		},
		"datagrams to a closed port, each refused by an error": {
			run: func(t *testing.T, w *wire) { w.sendToNobody(t, 20, 100) },
			near: map[string]quantity{
				"transmit process":  {20, 20 * 142},
				"receive unclaimed": {20, 20 * 170},
			},
			far: map[string]quantity{
				"receive no_socket": {20, 20 * 142},
				"transmit kernel":   {20, 20 * 170},
			},
		},
		"a connection to a closed port, refused by a reset": {
			run: func(t *testing.T, w *wire) { w.dialNobody(t, 10) },
			near: map[string]quantity{
				"transmit process": {10, 10 * 74},
				"receive process":  {10, 10 * 54},
			},
			far: map[string]quantity{
				"receive no_socket": {10, 10 * 74},
				"transmit kernel":   {10, 10 * 54},
			},
		},
		"frames of a packet socket": {
			run:  func(t *testing.T, w *wire) { w.sendFrames(t, 10, 100) },
			near: map[string]quantity{"transmit process": {10, 10 * 100}},
			far:  map[string]quantity{"receive unclaimed": {10, 10 * 100}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := connect(t, l)
			test.run(t, w)
			near, far, _ := w.moved()
			if diff := cmp.Diff(test.near, near, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("the near end's accounts differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.far, far, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("the far end's accounts differ (-want +got):\n%s", diff)
			}
		})
	}
}
