// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/packet"
)

// Scatter makes the receiver's kernel drop one packet each of many kinds, on a new interface, and
// returns the number of kinds: for each IP protocol that has a name, one for each way in which a
// header can be wrong.
func Scatter(t *testing.T, lab *Lab, number int) (kinds int) {
	t.Helper()
	device := fmt.Sprintf("nt%d-s%d", os.Getpid(), number)
	lab.inReceiver(t, func() {
		tun := &netlink.Tuntap{
			LinkAttrs: netlink.LinkAttrs{Name: device},
			Mode:      netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, Queues: 1,
		}
		if err := netlink.LinkAdd(tun); err != nil {
			t.Fatalf("make %s: %v", device, err)
		}
		defer tun.Fds[0].Close() // the device is deleted with its namespace
		if err := netlink.LinkSetUp(tun); err != nil {
			t.Fatalf("set %s up: %v", device, err)
		}
		for protocol := range uint8(math.MaxUint8) {
			if !packet.HasName(protocol) {
				continue
			}
			for _, wrong := range lab.wrong(protocol) {
				if _, err := unix.Write(int(tun.Fds[0].Fd()), wrong); err != nil {
					t.Fatalf("receive on %s: %v", device, err)
				}
				kinds++
			}
		}
	})
	return kinds
}

// wrong returns packets that are dropped because of their headers, each for a reason that no other
// one of its family has.
func (l *Lab) wrong(protocol byte) [][]byte {
	sum, long := l.ip(protocol), l.ip(protocol)
	sum.badChecksum = true
	long.excess = 900
	short := l.ip(protocol).packet(nil)
	short[0] = 4<<4 | 4 // in words, of which there must be at least 5
	looped := ipHeader{protocol: protocol, ttl: 64, source: netip.IPv6Loopback(), destination: l.Receiver.IPv6}
	return [][]byte{sum.packet(nil), long.packet(nil), short, looped.packet(nil)}
}
