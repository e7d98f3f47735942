// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelCreditsATunOnWhoWritesToIt requires that packets that a virtual machine or a VPN writes to its device or reads from it are counted
// for it on that device, although the kernel forwards them.
func TestKernelCreditsATunOnWhoWritesToIt(t *testing.T) {
	const packets, size = 20, 500
	w := connect(t, share(t))
	here, guest := netip.MustParseAddr("10.220.0.1"), netip.MustParseAddr("10.220.0.2")
	device := w.openTun(t, netip.PrefixFrom(here, 24))
	w.inFar(func() { sysctl(t, "net/ipv4/ip_forward", "1") })
	var receiver *net.UDPConn
	w.inNear(func() {
		addRoute(t, "10.220.0.0/24", w.far.IPv4)
		receiver = datagrams(t, w.near.IPv4, 0)
	})
	port := receiver.LocalAddr().(*net.UDPAddr).AddrPort()
	buffer := make([]byte, 2048)
	for range packets {
		if _, err := device.Write(datagram(netip.AddrPortFrom(guest, 7), port, size)); err != nil {
			t.Fatal(err)
		}
		receive(t, receiver, size)
		if _, err := receiver.WriteToUDPAddrPort(make([]byte, size), netip.AddrPortFrom(guest, 7)); err != nil {
			t.Fatal(err)
		}
		for { // the kernel also sends packets of its own
			kerneltest.AwaitInput(t, int(device.Fd()))
			n, err := device.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			if n == ipHeader+udpHeader+size && buffer[0]>>4 == 4 {
				break
			}
		}
	}

	each := quantity{packets, packets * (ipHeader + udpHeader + size)}
	eventually(t, "the device's packets are the writer's", func() string {
		published := w.lab.collect(t)
		accounts := published.accounts(in(t, w.far.Name, "tun0"))
		delete(accounts, "transmit no_socket") // packets of the kernel itself
		delete(accounts, "transmit kernel")
		want := map[string]quantity{"receive process": each, "transmit process": each}
		if diff := cmp.Diff(want, accounts, cmp.AllowUnexported(quantity{})); diff != "" {
			return "the accounts differ (-want +got):\n" + diff
		}
		want = map[string]quantity{"receive": each, "transmit": each}
		return cmp.Diff(want, published.usage(os.Getpid(), "tun0"), cmp.AllowUnexported(quantity{}))
	})
}

const ipHeader, udpHeader = 20, 8

// openTun makes tun0 in the far end's namespace, and returns the file that this process
// has of it.
func (w *wire) openTun(t *testing.T, address netip.Prefix) *os.File {
	t.Helper()
	tun := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, Queues: 1, NonPersist: true,
	}
	w.inFar(func() {
		if err := netlink.LinkAdd(tun); err != nil {
			t.Fatalf("add a tun device: %v", err)
		}
	})
	device := tun.Fds[0]
	t.Cleanup(func() { device.Close() })
	if err := unix.SetNonblock(int(device.Fd()), true); err != nil {
		t.Fatal(err)
	}
	device = os.NewFile(uintptr(must(unix.Dup(int(device.Fd())))), "tun0") // one that the runtime polls
	t.Cleanup(func() { device.Close() })
	if err := device.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	w.settle(t, w.far.Name, "tun0", address)
	return device
}

// datagram returns a packet of IPv4 and UDP, with a number of bytes of payload.
func datagram(from, to netip.AddrPort, size int) []byte {
	packet := make([]byte, ipHeader+udpHeader+size)
	packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	copy(packet[12:], from.Addr().AsSlice())
	copy(packet[16:], to.Addr().AsSlice())
	var sum uint32
	for i := 0; i < ipHeader; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(packet[10:], ^uint16(sum))
	binary.BigEndian.PutUint16(packet[ipHeader:], from.Port())
	binary.BigEndian.PutUint16(packet[ipHeader+2:], to.Port())
	binary.BigEndian.PutUint16(packet[ipHeader+4:], uint16(udpHeader+size))
	return packet
}
