// SPDX-License-Identifier: Apache-2.0

// Package dropstest makes the kernel drop packets, a known number for a known reason, in network
// namespaces of its own.
package dropstest

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// Lab is a sender and a receiver that are connected by a cable. The receiver forwards, and checks
// strictly where packets come from.
type Lab struct {
	Sender, Receiver kerneltest.Namespace

	senderMAC, receiverMAC net.HardwareAddr

	handshakes uint16 // that were begun by hand
}

// NewLab makes a lab, which is removed at the end of the test.
func NewLab(t *testing.T) *Lab {
	t.Helper()
	lab := &Lab{}
	lab.Sender, lab.Receiver = kerneltest.Namespaces(t)
	lab.inSender(t, func() { lab.senderMAC = macOf(t, lab.Sender.Device) })
	lab.inReceiver(t, func() {
		lab.receiverMAC = macOf(t, lab.Receiver.Device)
		setSysctl(t, "net/ipv4/ip_forward", "1")
		setSysctl(t, "net/ipv4/conf/all/rp_filter", "1")
	})
	return lab
}

// Silence lets both sides send nothing by themselves: they know each other, and have no IPv6.
func (l *Lab) Silence(t *testing.T) {
	t.Helper()
	l.knowNeighbour(t, l.Sender.IPv4)
	l.inSender(t, func() { knowNeighbour(t, l.Sender.Index, l.Receiver.IPv4, l.receiverMAC) })
	for _, side := range []kerneltest.Namespace{l.Sender, l.Receiver} {
		kerneltest.InNamespace(t, side.Name, func() { setSysctl(t, filepath.Join("net/ipv6/conf", side.Device, "disable_ipv6"), "1") })
	}
}

func (l *Lab) inSender(t *testing.T, f func()) {
	t.Helper()
	kerneltest.InNamespace(t, l.Sender.Name, f)
}

func (l *Lab) inReceiver(t *testing.T, f func()) {
	t.Helper()
	kerneltest.InNamespace(t, l.Receiver.Name, f)
}

// send puts n copies of a frame on the cable without changes.
func (l *Lab) send(t *testing.T, n int, frame []byte) {
	t.Helper()
	l.inSender(t, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			t.Fatalf("open packet socket: %v", err)
		}
		defer unix.Close(fd)
		for range n {
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Sender.Index}); err != nil {
				t.Fatalf("send frame: %v", err)
			}
		}
	})
}

// frame puts the sender's Ethernet header in front of a packet for the receiver.
func (l *Lab) frame(ethertype uint16, packet []byte) []byte {
	return ethernet(l.receiverMAC, l.senderMAC, ethertype, packet)
}

// ip returns an IPv4 header from the sender to the receiver, which the caller may change.
func (l *Lab) ip(protocol byte) ipHeader {
	return ipHeader{protocol: protocol, ttl: 64, source: l.Sender.IPv4, destination: l.Receiver.IPv4}
}

func macOf(t *testing.T, device string) net.HardwareAddr {
	t.Helper()
	link, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatalf("find %s: %v", device, err)
	}
	return link.Attrs().HardwareAddr
}

// setSysctl sets a sysctl of the current network namespace.
func setSysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
		t.Fatalf("set sysctl: %v", err)
	}
}

// Unplug deletes the cable, and with it both devices.
func (l *Lab) Unplug(t *testing.T) {
	t.Helper()
	l.inReceiver(t, func() {
		link, err := netlink.LinkByName(l.Receiver.Device)
		if err != nil {
			t.Fatalf("find %s: %v", l.Receiver.Device, err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatalf("delete %s: %v", l.Receiver.Device, err)
		}
	})
}

// Rename gives the receiver's device another name. The device is down while this happens.
func (l *Lab) Rename(t *testing.T, name string) {
	t.Helper()
	l.inReceiver(t, func() {
		link, err := netlink.LinkByName(l.Receiver.Device)
		if err != nil {
			t.Fatalf("find %s: %v", l.Receiver.Device, err)
		}
		if err := netlink.LinkSetDown(link); err != nil {
			t.Fatalf("set %s down: %v", l.Receiver.Device, err)
		}
		if err := netlink.LinkSetName(link, name); err != nil {
			t.Fatalf("rename %s: %v", l.Receiver.Device, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatalf("set %s up: %v", name, err)
		}
		kerneltest.AwaitUp(t, name)
		// which it has lost while down
		kerneltest.AddAddress(t, name, netip.PrefixFrom(l.Receiver.IPv6, 64))
	})
	l.inSender(t, func() { kerneltest.AwaitUp(t, l.Sender.Device) })
	l.Receiver.Device = name
}
