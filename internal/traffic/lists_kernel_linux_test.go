// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestKernelCollectsWhilePacketsArrive(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	w.inFar(func() { receiver = datagrams(t, w.far.IPv4, 0) })

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			sendTo(t, from, receiver.LocalAddr(), 1, 4000, receiver)
		}
	}()
	for ctx.Err() == nil {
		l.collect(t)
	}
	<-done
	near, far, _ := w.moved()
	sent := quantity{packets: near["transmit process"].packets, bytes: near["transmit process"].bytes}
	if diff := cmp.Diff(map[string]quantity{"receive process": sent}, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("what was sent is not what the receiver got (-want +got):\n%s", diff)
	}
}

// TestKernelTellsPacketsOfAListApart has a driver that polls, which passes packets on in lists: several have arrived before the first of
// them is delivered.
func TestKernelTellsPacketsOfAListApart(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	w.poll(t)
	var sinks [3]*helper
	var ports [len(sinks)]netip.AddrPort
	for i := range sinks {
		sinks[i] = start(t, w.far.Name)
		ports[i] = netip.MustParseAddrPort(sinks[i].do("listen udp %v", w.far.IPv4))
	}
	var from *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	const rounds, perRound = 40, 20
	for i, sink := range sinks {
		sink.begin("receive %d", rounds*perRound*100*(i+1))
	}
	for range rounds {
		w.holdBack(t)
		for n := range perRound {
			if n == perRound-1 {
				w.letGo(t)
			}
			for i, to := range ports {
				if _, err := from.WriteToUDPAddrPort(make([]byte, 100*(i+1)), to); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, sink := range sinks {
		sink.end()
	}
	published := l.collect(t)
	unobserved := published.unobserved(in(t, w.far.Name, w.far.Device))
	const all = int64(len(sinks) * rounds * perRound)
	// A veth that polls counts no link header. What had been counted before decides
	// whether the accounts have it.
	headers := uint64(42)
	if diff := cmp.Diff([]int64{0, 0, 0, -14 * all}, unobserved); diff != "" {
		headers = 28
		if diff := cmp.Diff([]int64{0, 0, 0, 0}, unobserved); diff != "" {
			t.Errorf("unobserved packets and bytes differ (-want +got):\n%s", diff)
		}
	}
	for i, sink := range sinks {
		want := map[string]quantity{"receive": {rounds * perRound, rounds * perRound * (uint64(100*(i+1)) + headers)}}
		if diff := cmp.Diff(want, published.usage(sink.pid(), w.far.Device), cmp.AllowUnexported(quantity{})); diff != "" {
			t.Errorf("usage of the process that got datagrams of %d bytes (-want +got):\n%s", 100*(i+1), diff)
		}
	}
}

// holdBack keeps what the near end sends until letGo is called and one more packet is sent. Then all of it
// arrives at once.
func (w *wire) holdBack(t *testing.T) {
	t.Helper()
	w.shape(t, 400, 4*time.Second)
}

func (w *wire) letGo(t *testing.T) {
	t.Helper()
	w.shape(t, 1e9, time.Millisecond)
}

// shape limits the near end to a rate in bytes per second. It may send at once what that rate allows in the
// time of burst.
func (w *wire) shape(t *testing.T, rate uint64, burst time.Duration) {
	t.Helper()
	w.inNear(func() {
		const tick = 64 * time.Nanosecond // of the kernel's packet scheduler
		err := netlink.QdiscReplace(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: w.near.Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate,
			Limit:      1 << 20,
			Buffer:     uint32(burst / tick),
		})
		if errors.Is(err, unix.ENOENT) {
			t.Skipf("this kernel has no token bucket filter: %v", err)
		}
		if err != nil {
			t.Fatalf("shape %s: %v", w.near.Device, err)
		}
	})
}

// poll lets the far end receive by polling, as hardware does: it then joins
// packets of a connection (GRO). For that the near end must not send them joined.
func (w *wire) poll(t *testing.T) {
	t.Helper()
	const setTSO, setGRO = 0x1f, 0x2c // ETHTOOL_STSO, ETHTOOL_SGRO
	w.inNear(func() { setFeature(t, w.near.Device, setTSO, 0) })
	w.inFar(func() { setFeature(t, w.far.Device, setGRO, 1) })
}

// setFeature gives an old-style ethtool command to a device of the current namespace.
func setFeature(t *testing.T, device string, command, value uint32) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	argument := struct{ command, value uint32 }{command, value}
	request := struct {
		name     [unix.IFNAMSIZ]byte
		argument unsafe.Pointer
		_        [16]byte
	}{argument: unsafe.Pointer(&argument)}
	copy(request.name[:], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		t.Fatalf("set feature %#x of %s: %v", command, device, errno)
	}
}

// TestKernelCreditsASegmentWhereItArrived has segments, which are cut for a socket that takes no large packets, in buffers
// in which packets arrived elsewhere that nobody received.
func TestKernelCreditsASegmentWhereItArrived(t *testing.T) {
	l := share(t)
	before, w := connect(t, l), connect(t, l)
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	w.inFar(func() { receiver = datagrams(t, w.far.IPv4, 0) })
	setOption(t, from, unix.SOL_UDP, unix.UDP_SEGMENT, 50)
	for range 50 {
		before.sendFrames(t, 20, 200) // in the kernel's small buffers, as segments of 50 bytes
		sendTo(t, from, receiver.LocalAddr(), 1, 4*50, receiver)
	}
	l.balanced(t, before.near, before.far, w.near, w.far)
}
