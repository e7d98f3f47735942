// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// wire is two namespaces that are connected by a veth pair, each with a process in it. It carries only what a
// test sends: the ends know each other's link address, and send nothing by themselves.
type wire struct {
	t         *testing.T
	lab       *lab
	near, far kerneltest.Namespace
	macs      map[string]net.HardwareAddr // by device
	before    publication                 // what was published at the last mark
}

// connect makes a wire, and calls mark. A wire that is older than the instrument does not have a lab yet.
func connect(t *testing.T, l *lab) *wire {
	t.Helper()
	w := lay(t)
	inhabit(t, w)
	if l != nil {
		w.lab = l
		w.mark()
	}
	return w
}

// lay makes a wire without a process at either end, and without a lab.
func lay(t *testing.T) *wire {
	t.Helper()
	w := &wire{t: t, macs: map[string]net.HardwareAddr{}}
	w.near, w.far = kerneltest.Namespaces(t)
	for _, n := range []kerneltest.Namespace{w.near, w.far} {
		kerneltest.InNamespace(t, n.Name, func() { w.silence(n) })
	}
	w.introduce(w.near, w.far)
	w.introduce(w.far, w.near)
	everyone := w.near.IPv4.As4()
	everyone[3] = 255 // of its network of 24 bits
	w.inNear(func() {
		knowNeighbour(t, w.near.Index, netip.AddrFrom4(everyone), net.HardwareAddr(bytes.Repeat([]byte{255}, 6)))
	})
	return w
}

// silence keeps n, which must be the current namespace, from sending by itself, and from sending again what the other
// end is slow to acknowledge.
func (w *wire) silence(n kerneltest.Namespace) {
	w.t.Helper()
	sysctl(w.t, "net/ipv4/igmp_link_local_mcast_reports", "0")
	sysctl(w.t, "net/ipv4/icmp_ratelimit", "0")
	sysctl(w.t, "net/ipv4/tcp_early_retrans", "0")
	if _, err := os.Stat("/proc/sys/net/ipv4/tcp_rto_min_us"); err == nil { // since Linux 6.11
		sysctl(w.t, "net/ipv4/tcp_rto_min_us", "10000000")
	}
	sysctl(w.t, "net/ipv6/icmp/ratelimit", "0")
	// A device without ARP is in none of the multicast groups that IPv6 reports.
	sysctl(w.t, "net/ipv6/conf/"+n.Device+"/disable_ipv6", "1")
	link := linkOf(w.t, n.Device)
	w.macs[n.Device] = link.Attrs().HardwareAddr
	if err := netlink.LinkSetARPOff(link); err != nil {
		w.t.Fatalf("silence %s: %v", n.Device, err)
	}
	sysctl(w.t, "net/ipv6/conf/"+n.Device+"/disable_ipv6", "0")
	kerneltest.AddAddress(w.t, n.Device, netip.PrefixFrom(n.IPv6, 64))
}

// introduce tells n the link address of its neighbour.
func (w *wire) introduce(n, neighbour kerneltest.Namespace) {
	w.t.Helper()
	kerneltest.InNamespace(w.t, n.Name, func() {
		for _, address := range []netip.Addr{neighbour.IPv4, neighbour.IPv6} {
			knowNeighbour(w.t, n.Index, address, w.macs[neighbour.Device])
		}
	})
}

func knowNeighbour(t *testing.T, index int, address netip.Addr, mac net.HardwareAddr) {
	t.Helper()
	err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: index, IP: address.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
	})
	if err != nil {
		t.Fatalf("tell that %v is at %v: %v", address, mac, err)
	}
}

// mark waits until the accounts of both ends balance, and keeps them for moved.
func (w *wire) mark() {
	w.t.Helper()
	w.before = w.lab.balanced(w.t, w.near, w.far)
}

// moved waits until the accounts of both ends balance. It returns by how much the accounts have grown since mark,
// and everything that was published with them.
func (w *wire) moved() (near, far map[string]quantity, published publication) {
	w.t.Helper()
	published = w.lab.balanced(w.t, w.near, w.far)
	return w.grown(w.near, published), w.grown(w.far, published), published
}

// sighted calls try with a new wire until everything that try sends is seen. On some machines process 1 runs in a
// sandbox, and no program runs in a soft interrupt that interrupts it. What is handled there is reported as
// unobserved. This does not happen each time. try returns whether everything was seen.
func sighted(t *testing.T, l *lab, try func(w *wire) bool) {
	t.Helper()
	for range 5 {
		if try(connect(t, l)) {
			return
		}
		t.Log("something was unobserved")
	}
	t.Error("something was unobserved each time")
}

// sawAll reports whether, after a while at most, nothing is unobserved at the ends and at the other devices of
// the far end.
func (w *wire) sawAll(others ...string) bool {
	w.t.Helper()
	places := []place{in(w.t, w.near.Name, w.near.Device), in(w.t, w.far.Name, w.far.Device)}
	for _, device := range others {
		places = append(places, in(w.t, w.far.Name, device))
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		published := w.lab.collect(w.t)
		seen := true
		for _, at := range places {
			seen = seen && slices.Equal(published.unobserved(at), []int64{0, 0, 0, 0})
		}
		if seen || time.Now().After(deadline) {
			return seen
		}
	}
}

func (w *wire) grown(n kerneltest.Namespace, after publication) map[string]quantity {
	w.t.Helper()
	at := in(w.t, n.Name, n.Device)
	return grown(w.before.accounts(at), after.accounts(at))
}

func grown(before, after map[string]quantity) map[string]quantity {
	grown := map[string]quantity{}
	for key, q := range after {
		q.packets -= before[key].packets
		q.bytes -= before[key].bytes
		if q != (quantity{}) {
			grown[key] = q
		}
	}
	return grown
}

// sysctl sets a sysctl of the current network namespace.
func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
		t.Fatalf("set sysctl: %v", err)
	}
}

// inNear and inFar call f on a thread in that end's namespace, so that its sockets are there.
func (w *wire) inNear(f func()) { w.t.Helper(); kerneltest.InNamespace(w.t, w.near.Name, f) }
func (w *wire) inFar(f func())  { w.t.Helper(); kerneltest.InNamespace(w.t, w.far.Name, f) }

// datagrams opens a UDP socket at an address. With port 0 the kernel chooses the port.
func datagrams(t *testing.T, address netip.Addr, port int) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: address.AsSlice(), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	return conn
}

// setOption sets an integer option of a socket.
func setOption(t *testing.T, conn syscall.Conn, level, option, value int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, value) })
	if err == nil {
		err = failed
	}
	if err != nil {
		t.Fatalf("set socket option %d/%d: %v", level, option, err)
	}
}
