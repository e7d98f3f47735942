// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

const (
	// segments makes twenty calls, each of which sends ten datagrams that the kernel segments (UDP_SEGMENT).
	segments = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, 1000)  # UDP_SEGMENT
for _ in range(20):
    s.sendto(bytes(10_000), (sys.argv[1], 2001))
    time.sleep(0.01)
`
	// multicast sends to a group that three sockets have joined.
	multicast = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
for _ in range(20):
    s.sendto(bytes(1000), ("239.1.2.3", 2002))
    s.sendto(bytes(4000), ("239.1.2.3", 2002))
    time.sleep(0.01)
`
	// receiver receives what those two send.
	receiver = `
import select, socket, sys
def bound(address, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    return s
sockets = [bound("", 2001)] + [bound("239.1.2.3", 2002) for _ in range(3)]
for s in sockets[1:]:
    group = socket.inet_aton("239.1.2.3") + socket.inet_aton(sys.argv[1])
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
while True:
    for s in select.select(sockets, [], [])[0]:
        s.recv(65536)
`
)

// TestDistributionCountsAPacketOnce has packets of which sockets receive several segments or several
// copies.
func TestDistributionCountsAPacketOnce(t *testing.T) {
	c := Start(t, everywhere)
	a, b := kerneltest.Namespaces(t)
	near, far := furnish(t, a), furnish(t, b)
	pid := far.start(t, "python3", "-c", receiver, far.IPv4.String())
	near.run(t, "curl", "--silent", "--output", "/dev/null", url(far.IPv4, 80)) // the servers are up

	for name, test := range map[string]struct {
		words []string
		bytes int64 // on the wire
	}{
		"datagrams that are cut for their receiver": {
			words: []string{"python3", "-c", segments, far.IPv4.String()},
			bytes: 20 * (10_000 + 42),
		},
		"multicast to three sockets, in one piece and in fragments": {
			words: []string{"python3", "-c", multicast, near.IPv4.String()},
			bytes: 20 * (1000 + 42 + 4008 + 3*34),
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := usage(c, pid, far.Device)
			carry(t, c, near, far, test.words...)
			after, _ := usage(c, pid, far.Device)
			if got := after - before; got == 0 || got%test.bytes != 0 { // carry may have run it more than once
				t.Errorf("the receiver received %d bytes, and should have %d", got, test.bytes)
			}
		})
	}
}

// TestDistributionGivesBothEndsTheSame compares the bytes of curl with those of the server at the
// other end, on a connection that curl closes first.
func TestDistributionGivesBothEndsTheSame(t *testing.T) {
	c := Start(t, everywhere)
	a, b := kerneltest.Namespaces(t)
	near, far := furnish(t, a), furnish(t, b)
	near.run(t, "curl", "--silent", "--output", "/dev/null", url(far.IPv4, 80)) // the server is up

	for name, address := range map[string]netip.Addr{"IPv4": far.IPv4, "IPv6": far.IPv6} {
		t.Run(name, func(t *testing.T) {
			balance(t, c, far)
			receivedBefore, sentBefore := usage(c, far.web, far.Device)
			curl := near.run(t, "curl", "--silent", "--output", "/dev/null", url(address, 80))
			balance(t, c, near, far)

			received, sent := usage(c, curl, near.Device)
			serverReceived, serverSent := usage(c, far.web, far.Device)
			serverReceived, serverSent = serverReceived-receivedBefore, serverSent-sentBefore
			// The last packet of either side may be received or sent by a socket in TIME_WAIT, which
			// belongs to no process.
			const last = 86
			if off := serverSent - received; off < -last || off > last || received < 200_000 {
				t.Errorf("the server sent %d bytes, and curl received %d", serverSent, received)
			}
			if off := serverReceived - sent; off < -last || off > last || sent == 0 {
				t.Errorf("curl sent %d bytes, and the server received %d", sent, serverReceived)
			}
		})
	}
}

// TestDistributionCountsABridgeAndItsPort moves the far end's address to a bridge. The processes'
// packets must be counted on the bridge, and be carried by its port.
func TestDistributionCountsABridgeAndItsPort(t *testing.T) {
	c := Start(t, everywhere)
	a, b := kerneltest.Namespaces(t)
	near, far := furnish(t, a), furnish(t, b)
	far.ip(t, "link", "add", "br0", "type", "bridge")
	far.ip(t, "link", "set", far.Device, "master", "br0")
	far.ip(t, "address", "flush", "dev", far.Device)
	far.ip(t, "address", "add", far.IPv4.String()+"/24", "dev", "br0")
	far.ip(t, "address", "add", far.IPv6.String()+"/64", "dev", "br0", "nodad")
	far.ip(t, "link", "set", "br0", "up")

	near.run(t, "curl", "--silent", "--output", "/dev/null", url(far.IPv4, 80)) // the server is up
	bridge := far
	bridge.Device = "br0"
	carry(t, c, near, bridge, "curl", "--silent", "--output", "/dev/null", url(far.IPv4, 80))
	carry(t, c, near, far, "curl", "--silent", "--output", "/dev/null", url(far.IPv6, 80))
	carry(t, c, near, bridge, "ping", "-c", "5", "-i", "0.1", "-s", "4000", far.IPv4.String())
	if _, sent := usage(c, far.web, "br0"); sent < 600_000 {
		t.Errorf("the server sent %d bytes through br0, and should have sent three files", sent)
	}
	far.requireOnlyCarried(t, c, far.web)
	far.requireStacked(t, c, map[string]bool{"br0": true, far.Device: false})
}

// TestDistributionSaysWhatIsUnobservedOnMacvlan has a web server behind a macvlan of the far end's
// device. No hook sees on a macvlan what the kernel itself receives there, such as an ARP reply: it
// is unobserved on the macvlan, and in the accounts of the device below.
func TestDistributionSaysWhatIsUnobservedOnMacvlan(t *testing.T) {
	c := Start(t, everywhere)
	a, b := kerneltest.Namespaces(t)
	d, _ := kerneltest.Namespaces(t)
	near, far, pod := furnish(t, a), furnish(t, b), furnish(t, d)
	four := far.IPv4.As4()
	four[3] = 3
	address := netip.AddrFrom4(four)
	far.ip(t, "link", "add", "link", far.Device, "name", "mac0", "netns", pod.Name, "type", "macvlan", "mode", "bridge")
	pod.ip(t, "address", "add", address.String()+"/24", "dev", "mac0")
	pod.ip(t, "link", "set", "mac0", "addrgenmode", "none") // without it, a timer sends for IPv6, sometimes where no program runs
	pod.ip(t, "link", "set", "mac0", "up")
	pod.run(t, "curl", "--silent", "--output", "/dev/null", url(near.IPv4, 80)) // it sends an ARP request for the near end's address
	carry(t, c, near, far, "curl", "--silent", "--output", "/dev/null", url(address, 80))

	onMacvlan := pod
	onMacvlan.Device = "mac0"
	unobserved := balance(t, c, onMacvlan)[0].unobserved
	const questions = 1000
	if unobserved.ReceivedBytes <= 0 || unobserved.ReceivedBytes > questions || unobserved.SentPackets != 0 || unobserved.SentBytes != 0 {
		t.Errorf("mac0 has unobserved packets and bytes: %+v, and should have an answer or two", unobserved)
	}
	if _, sent := usage(c, pod.web, "mac0"); sent < 200_000 {
		t.Errorf("the server sent %d bytes through mac0", sent)
	}
	far.requireOnlyCarried(t, c, pod.web)
	pod.requireStacked(t, c, map[string]bool{"mac0": true})
	far.requireStacked(t, c, map[string]bool{far.Device: false})
}

// ip runs the command ip in the namespace.
func (h host) ip(t *testing.T, words ...string) {
	t.Helper()
	words = append([]string{"-n", h.Name}, words...)
	if output, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", words, err, output)
	}
}

// requireOnlyCarried requires that the namespace's device has carried packets, and that it counts
// none for the process: they are counted on a device above.
func (h host) requireOnlyCarried(t *testing.T, c *Collector, pid int) {
	t.Helper()
	received, sent := usage(c, pid, h.Device)
	var carried int64
	for _, point := range c.Points("nettap.interface.io", Attributes{"nettap.netns.inode": h.inode, "network.interface.name": h.Device}) {
		if point.Attributes["nettap.account"] == "carried" && point.Attributes["network.io.direction"] == "transmit" {
			carried = point.Value
		}
	}
	if received != 0 || sent != 0 || carried < 200_000 {
		t.Errorf("%s carried %d bytes, and is said to have received %d and sent %d for the process", h.Device, carried, received, sent)
	}
}

// requireStacked requires that nettap.interface.stacked says of devices whether they are above others.
func (h host) requireStacked(t *testing.T, c *Collector, want map[string]bool) {
	t.Helper()
	got := map[string]bool{}
	for _, point := range c.Points("nettap.interface.io", Attributes{"nettap.netns.inode": h.inode}) {
		device := fmt.Sprint(point.Attributes["network.interface.name"])
		if _, asked := want[device]; asked {
			got[device] = point.Attributes["nettap.interface.stacked"] == true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nettap.interface.stacked differs (-want +got):\n%s", diff)
	}
}
