// SPDX-License-Identifier: Apache-2.0

package refusals

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// observe starts Refusals that end with the test.
func observe(t *testing.T) *Refusals {
	t.Helper()
	kerneltest.Require(t)
	r := New(nil)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	if err := r.Enable(); err != nil {
		t.Fatal(err)
	}
	return r
}

// within returns everything that was refused in a network namespace, without times.
func (r *Refusals) within(t *testing.T, inode uint64) []Refusal {
	t.Helper()
	all, err := r.Read(true)
	if err != nil {
		t.Fatal(err)
	}
	var found []Refusal
	for _, refusal := range all {
		if refusal.FirstNanos == 0 {
			t.Errorf("%+v has no time", refusal)
		}
		refusal.FirstNanos = 0
		if refusal.NetnsInode == uint32(inode) {
			found = append(found, refusal)
		}
	}
	slices.SortFunc(found, func(a, b Refusal) int { return cmpPorts(a, b) })
	return found
}

func cmpPorts(a, b Refusal) int {
	if n := a.Peer.Compare(b.Peer); n != 0 {
		return n
	}
	return int(a.Port) - int(b.Port)
}

func inodeOf(t *testing.T) uint64 {
	t.Helper()
	var status unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &status); err != nil {
		t.Fatal(err)
	}
	return status.Ino
}

var addresses = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func requireRefused(t *testing.T, address netip.AddrPort) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address.String(), kerneltest.Patience)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Fatalf("dial %v: %v", address, err)
	}
}

func TestKernelCountsRefusedAttempts(t *testing.T) {
	kerneltest.NeedDroppers(t)
	r := observe(t)
	a, b := kerneltest.Namespaces(t)
	var inode uint64
	kerneltest.InNamespace(t, b.Name, func() { inode = inodeOf(t) })
	kerneltest.InNamespace(t, a.Name, func() {
		for range 3 {
			requireRefused(t, netip.AddrPortFrom(b.IPv4, 22))
		}
		requireRefused(t, netip.AddrPortFrom(b.IPv4, 23))
		for range 2 {
			requireRefused(t, netip.AddrPortFrom(b.IPv6, 22))
		}
	})
	want := []Refusal{
		{Local: b.IPv4, Peer: a.IPv4, NetnsInode: uint32(inode), Port: 22, Cause: "closed_port", Count: 3},
		{Local: b.IPv4, Peer: a.IPv4, NetnsInode: uint32(inode), Port: 23, Cause: "closed_port", Count: 1},
		{Local: b.IPv6, Peer: a.IPv6, NetnsInode: uint32(inode), Port: 22, Cause: "closed_port", Count: 2},
	}
	if diff := cmp.Diff(want, r.within(t, inode), addresses); diff != "" {
		t.Errorf("refusals differ (-want +got):\n%s", diff)
	}
	if again := r.within(t, inode); again != nil {
		t.Errorf("they are reported again: %v", again)
	}
}

// TestKernelCountsAScanByItsPeer sends a SYN to each port there is, as fast as two cores can.
func TestKernelCountsAScanByItsPeer(t *testing.T) {
	kerneltest.NeedDroppers(t)
	ports := make([]uint16, 65535)
	if testing.Short() { // an emulated machine
		ports = ports[:2000]
	}
	for i := range ports {
		ports[i] = uint16(1 + i)
	}
	r := observe(t)
	a, b := kerneltest.Namespaces(t)
	var inode uint64
	kerneltest.InNamespace(t, b.Name, func() { inode = inodeOf(t) })
	kerneltest.InNamespace(t, a.Name, func() {
		flood(t, b.IPv4, len(ports), func(i int) (netip.Addr, uint16) { return a.IPv4, ports[i] })
	})
	var sum uint64
	got := r.within(t, inode)
	for _, refusal := range got {
		sum += refusal.Count
	}
	apart := len(got) - 1
	if all := uint64(len(ports)); !isAbout(apart, 16) || sum != all || got[0].Port != 0 || got[0].Count != all-uint64(apart) || got[0].Peer != a.IPv4 {
		t.Errorf("%d entries of %d attempts, the first %+v; want 17 of %d, and the first of all but 16 ports", len(got), sum, got[0], all)
	}
}

// TestKernelCountsAFloodFromManyPeers sends SYNs as fast as two cores can from addresses that no
// interface has.
func TestKernelCountsAFloodFromManyPeers(t *testing.T) {
	kerneltest.NeedDroppers(t)
	const syns = 20_000
	r := observe(t)
	a, b := kerneltest.Namespaces(t)
	var inode uint64
	kerneltest.InNamespace(t, b.Name, func() { inode = inodeOf(t) })
	kerneltest.InNamespace(t, a.Name, func() {
		flood(t, b.IPv4, syns, fromStrangersTo22)
	})
	var sum uint64
	got := r.within(t, inode)
	for _, refusal := range got {
		sum += refusal.Count
	}
	apart := len(got) - 1
	if !isAbout(apart, 64) || sum != syns || got[0].Peer.IsValid() || got[0].Port != 22 || got[0].Count != syns-uint64(apart) {
		t.Errorf("%d entries of %d attempts, the first %+v; want 65 of %d, and the first of all but 64 peers", len(got), sum, got[0], syns)
	}
}

// TestKernelCountsWhatFindsNoPlace sends SYNs, each from another address and to another port.
func TestKernelCountsWhatFindsNoPlace(t *testing.T) {
	kerneltest.NeedDroppers(t)
	const syns = 5000
	r := observe(t)
	a, b := kerneltest.Namespaces(t)
	var inode uint64
	kerneltest.InNamespace(t, b.Name, func() { inode = inodeOf(t) })
	kerneltest.InNamespace(t, a.Name, func() {
		flood(t, b.IPv4, syns, func(i int) (netip.Addr, uint16) { return stranger(i), uint16(1000 + i) })
	})
	all, err := r.Read(true)
	if err != nil {
		t.Fatal(err)
	}
	var apart, rest uint64
	for _, refusal := range all {
		switch {
		case refusal.NetnsInode == uint32(inode):
			apart += refusal.Count
		case refusal.NetnsInode == 0:
			rest += refusal.Count
		}
	}
	if len(all) > 1024 || apart < 900 || apart+rest < syns || apart+rest > syns+50 {
		t.Errorf("%d entries, %d attempts apart and %d with those of others; want at most 1024 entries, and %d attempts", len(all), apart, rest, syns)
	}
}

// isAbout reports whether so many are told apart as are to be, or one more for the thread of flood that was counting at
// the same time.
func isAbout(apart, limit int) bool { return apart == limit || apart == limit+1 }

// flood sends n SYNs in two threads. of returns the peer and the port of each.
func flood(t *testing.T, to netip.Addr, n int, of func(i int) (from netip.Addr, port uint16)) {
	t.Helper()
	reach(t, to)
	defer reach(t, to)
	const threads = 2
	var running sync.WaitGroup
	defer running.Wait()
	for thread := range threads {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			defer unix.Close(fd)
			for i := thread; i < n; i += threads {
				from, port := of(i)
				if err := unix.Sendto(fd, syn(from, to, port), 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
}

// reach sends a datagram to a closed port and returns when that is refused. Then the neighbour's address is known, without
// which only a few packets wait to be sent, and what this CPU has sent before has arrived.
func reach(t *testing.T, to netip.Addr) {
	t.Helper()
	c, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("a datagram to %v: %v", to, err)
	}
}

func fromStrangersTo22(i int) (from netip.Addr, port uint16) { return stranger(i), 22 }

// stranger returns one of 65,536 addresses that no interface has.
func stranger(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }

// syn is an IPv4 packet that opens a connection.
func syn(from, to netip.Addr, port uint16) []byte {
	p := make([]byte, 40)
	p[0], p[3], p[8], p[9] = 0x45, 40, 64, unix.IPPROTO_TCP
	copy(p[12:], from.AsSlice())
	copy(p[16:], to.AsSlice())
	p[20], p[22], p[23] = 0x10, byte(port>>8), byte(port)
	p[32], p[33], p[34] = 5<<4, 0x02, 0xff
	sum := uint32(unix.IPPROTO_TCP + 20)
	for i := 12; i < 40; i += 2 {
		sum += uint32(p[i])<<8 | uint32(p[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	p[36], p[37] = byte(^sum>>8), byte(^sum)
	return p
}

// A full accept queue is only seen if functions can be traced or probed.
func TestKernelCountsWhatAFullQueueRefuses(t *testing.T) {
	r := observe(t)
	if len(r.Hooks()) < 2 {
		t.Skip(r.Hooks()[0].NotSeen)
	}
	a, b := kerneltest.Namespaces(t)
	var inode uint64
	kerneltest.InNamespace(t, b.Name, func() {
		inode = inodeOf(t)
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: b.IPv4.As4(), Port: 22}), unix.Listen(fd, 1))
		if err != nil {
			t.Fatal(err)
		}
	})
	kerneltest.InNamespace(t, a.Name, func() {
		for range 2 { // two connections wait if the limit is one
			c, err := net.DialTimeout("tcp", fmt.Sprintf("%v:22", b.IPv4), kerneltest.Patience)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}
		flood(t, b.IPv4, 10, fromStrangersTo22)
	})
	var sum uint64
	for _, refusal := range r.within(t, inode) {
		if refusal.Cause != "queue_full" || refusal.Port != 22 || refusal.Local != b.IPv4 {
			t.Errorf("%+v", refusal)
		}
		sum += refusal.Count
	}
	if sum != 10 {
		t.Errorf("%d attempts were refused, want 10", sum)
	}
}
