// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace with one interface in addition to lo.
type Namespace struct {
	Name   string // as in ip netns exec NAME
	Device string // name of its end of the veth pair, unique on this machine
	Index  int    // of Device
	IPv4   netip.Addr
	IPv6   netip.Addr
}

// pairs is the number of pairs that were made, so that their names and networks differ.
var pairs atomic.Uint32

// Namespaces makes two network namespaces that are joined by a veth pair, with addresses of both
// families that can be used at once, and deletes them at the end of the test.
func Namespaces(t *testing.T) (a, b Namespace) {
	t.Helper()
	pair := pairs.Add(1)
	a, b = newNamespace(t, pair, 1), newNamespace(t, pair, 2)
	InNamespace(t, a.Name, func() { join(t, a, b) })
	for _, namespace := range []*Namespace{&a, &b} {
		InNamespace(t, namespace.Name, func() { namespace.Index = bringUp(t, *namespace) })
	}
	for _, namespace := range []Namespace{a, b} {
		InNamespace(t, namespace.Name, func() { AwaitUp(t, namespace.Device) })
	}
	return a, b
}

// newNamespace makes an empty namespace, which is number side of its pair.
func newNamespace(t *testing.T, pair uint32, side byte) Namespace {
	t.Helper()
	n := Namespace{
		Name:   fmt.Sprintf("nettap-%d-%d-%d", os.Getpid(), pair, side),
		Device: fmt.Sprintf("nt%d-%d-%d", os.Getpid(), pair, side), // at most 15 characters
		IPv4:   netip.AddrFrom4([4]byte{10, 213, byte(pair), side}),
		IPv6:   netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x13, 7: byte(pair), 15: side}),
	}
	onThread(t, func() {
		handle, err := netns.NewNamed(n.Name)
		if err != nil {
			t.Fatalf("make network namespace %s: %v", n.Name, err)
		}
		handle.Close()
	})
	t.Cleanup(func() {
		if err := netns.DeleteNamed(n.Name); err != nil {
			t.Errorf("delete network namespace %s: %v", n.Name, err)
		}
	})
	return n
}

// join makes a veth pair between the current namespace, a, and b.
func join(t *testing.T, a, b Namespace) {
	t.Helper()
	peer, err := netns.GetFromName(b.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: a.Device})
	veth.PeerName = b.Device
	veth.PeerNamespace = netlink.NsFd(int(peer))
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatalf("make veth pair: %v", err)
	}
}

// bringUp configures the current namespace as n and returns the index of its device.
func bringUp(t *testing.T, n Namespace) int {
	t.Helper()
	// It would ask for routers for ever, at times that no test expects.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+n.Device+"/router_solicitations", []byte("0"), 0); err != nil {
		t.Fatalf("silence %s: %v", n.Device, err)
	}
	for _, name := range []string{"lo", n.Device} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatalf("find %s: %v", name, err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatalf("set %s up: %v", name, err)
		}
	}
	link, err := netlink.LinkByName(n.Device)
	if err != nil {
		t.Fatal(err)
	}
	AddAddress(t, n.Device, netip.PrefixFrom(n.IPv4, 24))
	AddAddress(t, n.Device, netip.PrefixFrom(n.IPv6, 64))
	return link.Attrs().Index
}

// lookEvery is how often it is looked whether what must come has come.
const lookEvery = 10 * time.Millisecond

// AddAddress gives a device of the current namespace an address, and waits until packets to it are
// accepted.
func AddAddress(t *testing.T, device string, address netip.Prefix) {
	t.Helper()
	link, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatalf("find %s: %v", device, err)
	}
	ip := &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen())}
	// Without duplicate address detection an IPv6 address can be used almost at once: only its
	// local route is added later, by a work queue.
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ip, Flags: unix.IFA_F_NODAD}); err != nil {
		t.Fatalf("add %v to %s: %v", address, device, err)
	}
	for range int(Patience / lookEvery) {
		routes, err := netlink.RouteGet(ip.IP)
		if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
		time.Sleep(lookEvery)
	}
	t.Fatalf("%v of %s is not local", address, device)
}

// AwaitUp waits until a device of the current namespace can send. The kernel may notice up to a
// second later that the cable is plugged in, and drops packets until then.
func AwaitUp(t *testing.T, device string) {
	t.Helper()
	for range int(Patience / lookEvery) {
		if link, err := netlink.LinkByName(device); err == nil && link.Attrs().OperState == netlink.OperUp {
			return
		}
		time.Sleep(lookEvery)
	}
	t.Fatalf("%s does not come up", device)
}

// InNamespace calls f on a thread that is in the named network namespace. Sockets that f opens and
// processes that it starts are in that namespace, but goroutines that it starts are not.
func InNamespace(t *testing.T, name string, f func()) {
	t.Helper()
	onThread(t, func() {
		namespace, err := netns.GetFromName(name)
		if err != nil {
			t.Fatalf("find network namespace %s: %v", name, err)
		}
		defer namespace.Close()
		if err := netns.Set(namespace); err != nil {
			t.Fatalf("enter network namespace %s: %v", name, err)
		}
		f()
	})
}

// Inhabit starts a process in a network namespace. It ends with the test, unless leave was called
// before.
func Inhabit(t *testing.T, namespace string) (leave func()) {
	t.Helper()
	inhabitant := exec.Command("sleep", "3600")
	var err error
	InNamespace(t, namespace, func() { err = inhabitant.Start() })
	if err != nil {
		t.Fatal(err)
	}
	leave = sync.OnceFunc(func() {
		inhabitant.Process.Kill() //nolint:errcheck // it does nothing else
		inhabitant.Wait()         //nolint:errcheck // it was killed
	})
	t.Cleanup(leave)
	return leave
}

// onThread calls f on a thread of its own, and then returns the thread to the network namespace
// that it came from.
func onThread(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		defer home.Close()
		if err := netns.Set(home); err != nil {
			// The thread stays locked, so that it ends with this goroutine.
			t.Errorf("return to the network namespace: %v", err)
			return
		}
		runtime.UnlockOSThread()
	}()
	f()
}

// Lose loses all that a namespace sends to the other one of its pair, until restore is called.
func Lose(t *testing.T, from, to Namespace) (restore func()) {
	t.Helper()
	nobody := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	var lost []*netlink.Neigh
	for _, address := range []netip.Addr{to.IPv4, to.IPv6} {
		lost = append(lost, &netlink.Neigh{LinkIndex: from.Index, IP: address.AsSlice(), HardwareAddr: nobody, State: netlink.NUD_PERMANENT})
	}
	inEach := func(do func(*netlink.Neigh) error) {
		t.Helper()
		InNamespace(t, from.Name, func() {
			for _, neighbour := range lost {
				if err := do(neighbour); err != nil {
					t.Fatalf("change neighbour %v: %v", neighbour.IP, err)
				}
			}
		})
	}
	inEach(netlink.NeighSet)
	return func() {
		t.Helper()
		inEach(netlink.NeighDel)
	}
}
