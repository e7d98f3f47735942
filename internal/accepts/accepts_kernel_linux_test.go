// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/stats"
)

const nobody = 65534

func TestKernelReportsEachAcceptOnce(t *testing.T) {
	withEachHook(t, func(t *testing.T, observe func(*testing.T, ...func(*Accepts)) *fixture) {
		each := 100
		if testing.Short() {
			each = 40
		}
		o := observe(t)
		var all sync.Mutex
		var connections []connection
		var ports []uint16
		var clients sync.WaitGroup
		for _, server := range []struct {
			kinds   []string // processes on one listener
			address string
			uid     int
		}{
			{[]string{"net"}, "127.0.0.1:0", 0},
			{[]string{"blocking"}, "127.0.0.1:0", 0},
			{[]string{"blocking", "blocking"}, "127.0.0.1:0", 1}, // prefork
			{[]string{"threads"}, "[::1]:0", nobody},
		} {
			listener, address := listen(t, server.address)
			ports = append(ports, address.Port())
			for _, kind := range server.kinds {
				startServer(t, kind, listener, server.uid)
			}
			clients.Go(func() {
				for range each {
					c, err := tryConnect(net.Dialer{}, address)
					if err != nil {
						t.Error(err)
						return
					}
					all.Lock()
					connections = append(connections, c)
					all.Unlock()
				}
			})
		}
		clients.Wait()
		if t.Failed() {
			return
		}
		// serveNet does not know which of its threads accepted in Go's runtime.
		o.collect(t)
		for i, c := range connections {
			if c.server.Port() == ports[0] {
				connections[i].by.TID = 0
			}
		}
		for i, s := range o.records {
			if s.Local.Port() == ports[0] && isThread(s.PID, s.TID) {
				o.records[i].TID = 0
			}
		}
		if o.misses(t, "see_syscall") > 0 {
			t.Skip("this kernel skips programs while others are preempted, as Linux does from 7.0 on")
		}
		o.expect(t, connections, ports...)
		if len(connections) != 4*each {
			t.Errorf("%d connections were made, want %d", len(connections), 4*each)
		}
	})
}

// misses returns how often the kernel did not run a program.
func (o *fixture) misses(t *testing.T, program string) uint64 {
	t.Helper()
	loaded, ok := o.accepts.object.Programs[program]
	if !ok {
		return 0
	}
	stats, err := loaded.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return stats.RecursionMisses
}

func isThread(pid, tid int64) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pid, tid))
	return err == nil
}

func TestKernelReportsAccepts(t *testing.T) {
	type server struct {
		kind   string
		listen string // default: IPv4
		dial   netip.Addr
		uid    int
		early  bool // it waits inside accept when the instrument starts
	}
	servers := map[string]server{
		"of IPv6":                                   {kind: "blocking", listen: "[::1]:0"},
		"of IPv4 on an IPv6 socket":                 {kind: "blocking", listen: "[::]:0", dial: netip.MustParseAddr("127.0.0.1")},
		"of a user who is not root":                 {kind: "blocking", uid: nobody},
		"by threads":                                {kind: "threads"},
		"that wait already":                         {kind: "blocking", early: true},
		"that wait already in threads":              {kind: "threads", early: true},
		"through io_uring":                          {kind: "io_uring"},
		"through io_uring that wait already":        {kind: "io_uring", early: true},
		"through io_uring, multishot":               {kind: "multishot"},
		"through io_uring, multishot, waiting":      {kind: "multishot", early: true},
		"through io_uring into a slot":              {kind: "fixed file"},
		"through io_uring into any slot":            {kind: "any fixed file"},
		"through io_uring into any slot that waits": {kind: "any fixed file", early: true},
	}
	uring := lackOfUring(t)
	withEachHook(t, func(t *testing.T, observe func(*testing.T, ...func(*Accepts)) *fixture) {
		addresses, ports := map[string]netip.AddrPort{}, map[uint16]bool{}
		var late []func()
		for name, server := range servers {
			if strings.Contains(name, "io_uring") && uring != "" {
				continue
			}
			listener, address := listen(t, cmp.Or(server.listen, "127.0.0.1:0"))
			// accepted on another address, so that only the port tells them apart
			for ports[address.Port()] {
				listener, address = listen(t, cmp.Or(server.listen, "127.0.0.1:0"))
			}
			ports[address.Port()] = true
			if server.dial.IsValid() {
				address = netip.AddrPortFrom(server.dial, address.Port())
			}
			addresses[name] = address
			if server.early {
				pid := startServer(t, server.kind, listener, server.uid)
				connect(t, address)
				awaitAccept(t, pid) // waits in its second accept
				continue
			}
			late = append(late, func() { startServer(t, server.kind, listener, server.uid) })
		}
		o := observe(t)
		for _, start := range late {
			start()
		}
		for name := range servers {
			t.Run(name, func(t *testing.T) {
				address, ok := addresses[name]
				if !ok {
					t.Skip(uring)
				}
				made := 5
				if strings.Contains(name, " into ") {
					made = 2 // the kernel takes a second to close a socket that has no fd
				}
				var connections []connection
				for range made {
					connections = append(connections, connect(t, address))
				}
				o.expect(t, connections, address.Port())
			})
		}
	})
}

func TestKernelReportsAcceptsOfMPTCP(t *testing.T) {
	withEachHook(t, func(t *testing.T, observe func(*testing.T, ...func(*Accepts)) *fixture) {
		o := observe(t)
		var config net.ListenConfig
		config.SetMultipathTCP(true)
		listener, address := listenWith(t, config, "127.0.0.1:0")
		if protocol, err := unix.GetsockoptInt(int(listener.Fd()), unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.IPPROTO_MPTCP {
			t.Skip("this kernel has no MPTCP")
		}
		startServer(t, "blocking", listener, 0)
		var dialer net.Dialer
		dialer.SetMultipathTCP(true)
		o.expect(t, []connection{connect(t, address), connectWith(t, dialer, address)}, address.Port())
		for _, s := range o.on(t, address.Port()) {
			if s.queued < 0 || s.queued > patience.Seconds() || s.queueLimit <= 0 {
				t.Errorf("waited %v s in a queue of at most %d", s.queued, s.queueLimit)
			}
		}
	})
}

// acceptOne accepts one connection on this thread.
func acceptOne(t *testing.T, listener *os.File) {
	t.Helper()
	greet(os.NewFile(uintptr(kerneltest.AcceptOn(t, int(listener.Fd()))), "connection"))
}

func TestKernelReportsHowLongAConnectionWaited(t *testing.T) {
	withEachHook(t, func(t *testing.T, observe func(*testing.T, ...func(*Accepts)) *fixture) {
		const wait = 200 * time.Millisecond
		listener, address := listen(t, "127.0.0.1:0")
		if err := unix.Listen(int(listener.Fd()), 7); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		var connections []net.Conn
		for range 3 {
			connection, err := net.DialTimeout("tcp", address.String(), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			connections = append(connections, connection)
		}
		o := observe(t)  // the connections are older than the instrument
		time.Sleep(wait) // the time that they are to wait in the queue
		accepting := time.Now()
		for range connections {
			acceptOne(t, listener)
		}
		after := time.Now()

		got := o.on(t, address.Port())
		slices.SortFunc(got, func(a, b sighting) int { return a.accepted.Compare(b.accepted) })
		var lengths []int64
		for _, s := range got {
			lengths = append(lengths, s.queueLength)
			if s.queued < wait.Seconds() || s.queued > after.Sub(before).Seconds() {
				t.Errorf("waited %v s, want %v to %v", s.queued, wait, after.Sub(before))
			}
			if s.queueLimit != 7 {
				t.Errorf("the queue's limit is %d, want 7", s.queueLimit)
			}
			if s.accepted.Before(accepting.Add(-time.Millisecond)) || s.accepted.After(after.Add(time.Millisecond)) {
				t.Errorf("accepted at %v, want %v to %v", s.accepted, accepting, after)
			}
		}
		if diff := gocmp.Diff([]int64{2, 1, 0}, lengths); diff != "" {
			t.Errorf("lengths of the queue differ (-want +got):\n%s", diff)
		}
	})
}

func TestKernelReportsAConnectionThatWasResetInTheQueue(t *testing.T) {
	o := observe(t)
	listener, address := listen(t, "127.0.0.1:0")
	client, err := net.DialTimeout("tcp", address.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	want := connection{client: unmapped(client.LocalAddr()), server: address, by: newGreeting()}
	if err := client.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	client.Close()
	time.Sleep(100 * time.Millisecond) // the time that it is to wait in the queue
	acceptOne(t, listener)

	got := o.on(t, address.Port())
	if len(got) == 1 {
		want.by.TID = int(got[0].TID) // the thread that this goroutine was on
		if got[0].queued < 0.1 {
			t.Errorf("waited %v s, want 0.1 or more", got[0].queued)
		}
	}
	o.expect(t, []connection{want}, address.Port())
}

func TestKernelReportsTheNetworkNamespace(t *testing.T) {
	o := observe(t)
	a, b := kerneltest.Namespaces(t)
	var listener *os.File
	var address netip.AddrPort
	var inode uint64
	kerneltest.InNamespace(t, b.Name, func() {
		listener, address = listen(t, netip.AddrPortFrom(b.IPv4, 0).String())
		var status unix.Stat_t
		if err := unix.Stat("/proc/thread-self/ns/net", &status); err != nil {
			t.Fatal(err)
		}
		inode = status.Ino
	})
	startServer(t, "blocking", listener, 0) // the server is in another namespace than its socket
	var made connection
	kerneltest.InNamespace(t, a.Name, func() { made = connect(t, address) })

	o.expect(t, []connection{made}, address.Port())
	for _, s := range o.on(t, address.Port()) {
		if s.netns != int64(inode) {
			t.Errorf("nettap.netns.inode is %d, want %d", s.netns, inode)
		}
	}
}

func TestKernelReportsBothUsersOfAProcess(t *testing.T) {
	o := observe(t)
	listener, address := listen(t, "127.0.0.1:0")
	startServerAs(t, "blocking", listener, 0, 1)
	made := connect(t, address)
	if made.by.UID != 1 || made.by.RealUID != 0 {
		t.Fatalf("the server is %+v", made.by)
	}
	o.expect(t, []connection{made}, address.Port())
}

func TestKernelReportsNothingElse(t *testing.T) {
	o := observe(t)
	listener, address := listen(t, "127.0.0.1:0")
	fd := int(listener.Fd()) // Fd makes it block
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, _, err := unix.Accept4(fd, 0); err != unix.EAGAIN {
			t.Fatalf("accept on an empty queue: %v", err)
		}
	}
	acceptUnix(t)

	o.collect(t)
	for _, s := range o.records {
		if s.PID == int64(os.Getpid()) {
			t.Errorf("reported %q on %v", s.Body, address)
		}
	}
}

// acceptUnix accepts a connection that is not TCP.
func acceptUnix(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("unix", t.TempDir()+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
}

func TestKernelCountsWhatAFullRingLoses(t *testing.T) {
	const made = 100
	o := observe(t, func(a *Accepts) { a.ringBytes = os.Getpagesize() })
	listener, address := listen(t, "127.0.0.1:0")
	startServer(t, "blocking", listener, 0)
	for range made {
		connect(t, address)
	}
	got := len(o.on(t, address.Port()))
	totals := o.balanced(t)
	if lost := totals.Lost["ring_full"]; got == 0 || got == made || uint64(made-got) > lost {
		t.Errorf("%d of %d accepts reported, %d counted as lost", got, made, lost)
	}

	// What was read makes room.
	again := connect(t, address)
	if n := len(o.on(t, address.Port())); n != got+1 {
		t.Errorf("%d accepts after one more (%v), want %d", n, again.client, got+1)
	}
}

func TestKernelReportsAtMostMaxPerSecond(t *testing.T) {
	const made, limit = 100, 3
	o := observe(t, func(a *Accepts) { a.options.MaxPerSecond = limit })
	listener, address := listen(t, "127.0.0.1:0")
	startServer(t, "blocking", listener, 0)
	connect(t, address)
	start := time.Now()
	for range made {
		connect(t, address)
	}
	windows := int(time.Since(start)/time.Second) + 2

	if got := len(o.on(t, address.Port())); got == 0 || got > limit*windows {
		t.Errorf("%d accepts reported in parts of %d seconds, want at most %d in each", got, windows, limit)
	}
	if totals := o.balanced(t); totals.SampledOut == 0 {
		t.Errorf("nothing was sampled out: %+v", totals)
	}
}

func TestKernelCountsWhatTheConfigurationLeavesOut(t *testing.T) {
	o := observe(t, func(a *Accepts) {
		config := metadata.DefaultLogsBuilderConfig()
		config.Events.NettapConnectionAccepted.Enabled = false
		a.builder = metadata.NewLogsBuilder(config, settings())
	})
	listener, address := listen(t, "127.0.0.1:0")
	startServer(t, "blocking", listener, 0)
	connect(t, address)
	if got := o.on(t, address.Port()); len(got) != 0 {
		t.Errorf("reported %v", got)
	}
	if totals := o.balanced(t); totals.SampledOut == 0 || totals.SampledOut != totals.Seen {
		t.Errorf("seen %d, sampled out %d, want the same", totals.Seen, totals.SampledOut)
	}
}

// balanced returns the counts at a moment when they must add up: other processes of this machine
// may accept between a read of the ring and one of the counts.
func (o *fixture) balanced(t *testing.T) stats.Totals {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		o.collect(t)
		totals := o.recorder.Read()
		accounted := uint64(len(o.records)+len(o.others)) + totals.SampledOut
		for _, lost := range totals.Lost {
			accounted += lost
		}
		if totals.Seen == accounted {
			return totals
		}
		if time.Now().After(deadline) {
			t.Fatalf("seen %d, but exported %d of %+v", totals.Seen, len(o.records), totals)
		}
	}
}

func TestKernelAcceptsCanBeRestarted(t *testing.T) {
	o := observe(t)
	listener, address := listen(t, "127.0.0.1:0")
	startServer(t, "blocking", listener, 0)
	o.expect(t, []connection{connect(t, address)}, address.Port())
	if err := o.accepts.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	connect(t, address) // without a collection

	o.records = nil
	if err := errors.Join(o.accepts.Start(t.Context()), o.accepts.Enable()); err != nil {
		t.Fatal(err)
	}
	o.expect(t, []connection{connect(t, address)}, address.Port())
	o.balanced(t)
}

// The start fails if an attached program does not run. Otherwise nothing would be reported, and
// nobody would notice.
func TestKernelRefusesAHookThatDoesNotFire(t *testing.T) {
	kerneltest.Require(t)
	if lack := lackOfUring(t); lack != "" {
		t.Skip(lack)
	}
	types, err := kernel.Types()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := uringHooks(types, spec)
	if err != nil {
		t.Fatal(err)
	}
	hooks[0].Cause = selftest.Packets // which does not make it fire
	object, err := kernel.Load(spec, hooks, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	if err := object.Attach(""); err != nil {
		t.Fatal(err)
	}
	const want = "note_submission, note_wakeup, see_completion is attached to tp_btf/io_uring_complete and does not run, " +
		"though sockets on lo were used: not supported by this kernel"
	if err := object.SelfTest(t.Context()); err == nil || err.Error() != want || !errors.Is(err, kernel.ErrUnsupported) {
		t.Errorf("SelfTest() = %v, want %s", err, want)
	}
}
