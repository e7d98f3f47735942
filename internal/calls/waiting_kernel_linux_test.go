// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// awaitBySelect and awaitByEpoll do what awaitReadable does by poll.
func awaitBySelect(t testing.TB, fd int) {
	t.Helper()
	var set unix.FdSet
	set.Set(fd)
	if n, err := unix.Select(fd+1, &set, nil, nil, &unix.Timeval{Sec: 10}); n != 1 {
		t.Errorf("nothing comes to %d: %v", fd, err)
	}
}

func awaitByEpoll(t testing.TB, fd int) {
	t.Helper()
	epoll := must(unix.EpollCreate1(unix.EPOLL_CLOEXEC))
	defer unix.Close(epoll)
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET&0xffffffff}); err != nil {
		t.Error(err)
	}
	if n, err := unix.EpollWait(epoll, make([]unix.EpollEvent, 1), 10_000); n != 1 {
		t.Errorf("nothing comes to %d: %v", fd, err)
	}
}

// waysOfWaiting has programs wait by each system call for it, on a connection of each kind.
func waysOfWaiting(t testing.TB, o *fixture) {
	here4, here6 := &unix.SockaddrInet4{Addr: loopback}, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	for name, test := range map[string]struct {
		wait     func(t testing.TB, fd int)
		protocol int
		at       unix.Sockaddr
	}{
		"poll":                             {awaitReadable, unix.IPPROTO_TCP, here4},
		"select":                           {awaitBySelect, unix.IPPROTO_TCP, here6},
		"epoll, on a connection of MPTCP":  {awaitByEpoll, unix.IPPROTO_MPTCP, here4},
		"epoll, on one of MPTCP over IPv6": {awaitByEpoll, unix.IPPROTO_MPTCP, here6},
	} {
		o.want(t, slowWaits)
		client, server, port := connectKind(t, test.protocol, test.at)
		if client < 0 {
			continue
		}
		var request, answer moments
		done := make(chan bool)
		answer.asked = time.Now()
		request.ready = answer.asked
		send(t, client, 5)
		go func() {
			defer close(done)
			test.wait(t, server)
			time.Sleep(lies)
			request.read = time.Now()
			receive(server)
			time.Sleep(thinks)
			answer.ready = time.Now()
			send(t, server, 7)
		}()
		test.wait(t, client)
		time.Sleep(lies)
		answer.read = time.Now()
		receive(client)
		<-done
		unix.Close(client)
		unix.Close(server)
		got := o.waits(t, port)
		for i := range got {
			if got[i].Port != int64(port) {
				got[i].Port = "the client's"
			}
		}
		if diff := gocmp.Diff([]waited{request.request("tcp", "the client's"), answer.answer("tcp", int64(port))}, got, about); diff != "" {
			t.Errorf("waits by %s differ (-want +got):\n%s", name, diff)
		}
	}
}

// connectKind connects two sockets in non-blocking mode by a protocol. client is below 0 if this kernel does not have it.
func connectKind(t testing.TB, protocol int, at unix.Sockaddr) (client, server, port int) {
	t.Helper()
	family := unix.AF_INET
	if _, is6 := at.(*unix.SockaddrInet6); is6 {
		family = unix.AF_INET6
	}
	listener, err := unix.Socket(family, unix.SOCK_STREAM, protocol)
	if protocol == unix.IPPROTO_MPTCP && err != nil {
		return -1, -1, 0
	}
	defer unix.Close(listener)
	client = must(unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, protocol))
	if err := unix.Bind(listener, at); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		t.Fatal(err)
	}
	address := must(unix.Getsockname(listener))
	if err := unix.Connect(client, address); err != unix.EINPROGRESS {
		t.Fatalf("connect: %v", err)
	}
	awaitReadable(t, listener)
	server, _, err = unix.Accept4(listener, unix.SOCK_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	switch at := address.(type) {
	case *unix.SockaddrInet4:
		port = at.Port
	case *unix.SockaddrInet6:
		port = at.Port
	}
	return client, server, port
}

// unconnectedDatagrams has a client that asks as many DNS clients do: it does not connect its socket.
func unconnectedDatagrams(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	server, client := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)), must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0))
	defer unix.Close(server)
	defer unix.Close(client)
	bindDatagrams(t, server)
	m := moments{asked: time.Now()}
	if err := unix.Sendto(client, make([]byte, 5), 0, must(unix.Getsockname(server))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(thinks)
	m.ready = time.Now()
	if err := unix.Sendto(server, make([]byte, 7), 0, &unix.SockaddrInet4{Addr: loopback, Port: int(localOf(client).Port())}); err != nil {
		t.Fatal(err)
	}
	awaitReadable(t, client)
	time.Sleep(lies)
	m.read = time.Now()
	receive(client)
	o.wantWaits(t, int(localOf(client).Port()), m.answer("udp", nil))
}

// resetAnswer has a server that ends the connection instead of answering.
func resetAnswer(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(client)
	m := moments{asked: time.Now()}
	send(t, client, 5)
	time.Sleep(thinks)
	m.ready = time.Now()
	unix.Close(server) // with something unread
	awaitReadable(t, client)
	time.Sleep(lies)
	m.read = time.Now()
	receive(client)
	want := m.answer("tcp", int64(port))
	want.Kept, want.Error = "failed", "ECONNRESET"
	o.wantWaits(t, port, want)
}

// roomThatTakesTooLong has a call that waits for room, but not for ever. That wait is the call's.
func roomThatTakesTooLong(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server := connectTCP(t)
	port := int(localOf(server).Port())
	limit := unix.NsecToTimeval(int64(thinks))
	if err := unix.SetsockoptTimeval(client, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	var gone time.Time
	thread := onThread(func() {
		for unix.Sendto(client, make([]byte, 1<<20), 0, nil) == nil {
		}
		gone = time.Now()
		for err := error(unix.EAGAIN); err != nil; { // it fails until there is room
			receive(server)
			err = unix.Sendto(client, make([]byte, 1), unix.MSG_DONTWAIT, nil)
		}
	})
	if waited := time.Since(gone); waited > slowWaits.MinDuration {
		t.Errorf("it takes %v until there is room", waited)
	}
	slow := 0
	for _, d := range o.deeds(t, thread) {
		if d.Syscall == "sendto" && d.BlockedOn == "send_buffer" {
			slow++
		}
	}
	got := slices.DeleteFunc(o.waits(t, port), func(w waited) bool { return w.Kind != "send" }) // the server reads late
	if len(got) > 0 || slow == 0 {
		t.Errorf("%d calls have waited for room, and there are %+v", slow, got)
	}
}

// connectionToNowhere connects to an address of the own network that nobody has.
func connectionToNowhere(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	var m moments
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		device := netlink.NewVeth(netlink.LinkAttrs{Name: "here"})
		device.PeerName = "there"
		if err := netlink.LinkAdd(device); err != nil {
			t.Fatal(err)
		}
		setUp(t, "lo") // by which the kernel tells itself
		setUp(t, "here")
		setUp(t, "there")
		link := must(netlink.LinkByName("here"))
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 2), Mask: net.CIDRMask(24, 32)}}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/neigh/here/mcast_solicit", []byte("1"), 0); err != nil { // and not three times
			t.Fatal(err)
		}
		m.asked = time.Now()
		client := connectAtOnce(t, nowhere.Addr, nowhere.Port)
		defer unix.Close(client)
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(client), Events: unix.POLLOUT}}, 10_000); n != 1 {
			t.Fatalf("the connect does not end: %v", err)
		}
		m.read = time.Now()
	})
	got := slices.DeleteFunc(o.waits(t, nowhere.Port), func(w waited) bool { return w.Kind != "connect" })
	if len(got) == 1 && got[0].Duration > 0.5 && got[0].Duration < m.read.Sub(m.asked).Seconds() { // the address was asked for once
		got[0].Duration = 0
	}
	if diff := gocmp.Diff([]waited{moments{}.failed("connect", "EHOSTUNREACH", int64(nowhere.Port))}, got); diff != "" {
		t.Errorf("waits differ (-want +got):\n%s", diff)
	}
}

// ringThatWaits lets io_uring connect, in vain and with success, and receive what is not there yet.
func ringThatWaits(t testing.TB, o *fixture) {
	requireRing(t)
	o.want(t, slowWaits)
	unused, listener := closedPort(t).(*unix.SockaddrInet4), listenTCP(t)
	port := int(localOf(listener).Port())
	connect := func(ring *kerneltest.Ring, fd, port int) int32 {
		address := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: uint16(port)>>8 | uint16(port)<<8, Addr: loopback}
		var pinner runtime.Pinner
		defer pinner.Unpin()
		pinner.Pin(&address)
		return ring.Do(kerneltest.Submission{Opcode: kerneltest.RingConnect, FD: int32(fd), Address: addressOf(&address), Offset: unix.SizeofSockaddrInet4}).Result
	}
	var m moments
	done := make(chan bool)
	onThread(func() {
		ring := kerneltest.NewRing()
		defer ring.Close()
		refused, client := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)), must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		defer unix.Close(refused)
		defer unix.Close(client)
		if result := connect(ring, refused, unused.Port); result != -int32(unix.ECONNREFUSED) {
			t.Errorf("the first connect ends with %d", result)
		}
		if result := connect(ring, client, port); result != 0 {
			t.Fatalf("the second connect ends with %d", result)
		}
		server, _, err := unix.Accept(listener)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(server)
		go func() {
			defer close(done)
			awaitReadable(t, server)
			receive(server)
			time.Sleep(thinks)
			m.ready = time.Now()
			send(t, server, 7)
		}()
		buffer := make([]byte, 16)
		m.asked = time.Now()
		ring.Move(kerneltest.RingSend, int32(client), buffer[:5])
		ring.Move(kerneltest.RingRecv, int32(client), buffer)
		m.read = time.Now()
		<-done
	})
	o.wantWaits(t, unused.Port, moments{}.failed("connect", "ECONNREFUSED", int64(unused.Port)))
	o.wantWaits(t, port, m.answer("tcp", int64(port)))
	for _, tr := range o.trees {
		if _, ok := waitOf(tr); !ok && tr.value("nettap.call.kept") == "slow" {
			t.Errorf("a call has waited: %+v", fmt.Sprint(deedOf(tr), tr.root.Name(), tr.nestings()))
		}
	}
}

// filteredConnects has a connect that fails, and that is of an address and a port.
func filteredConnects(t testing.TB, o *fixture) {
	closed := closedPort(t).(*unix.SockaddrInet4)
	for name, test := range map[string]struct {
		filter Filter
		want   int
	}{
		"the port":        {Filter{Ports: []uint16{uint16(closed.Port)}}, 1},
		"another port":    {Filter{Ports: []uint16{1}}, 0},
		"the address":     {Filter{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, 1},
		"another address": {Filter{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, 0},
	} {
		options := slowWaits
		options.Filter = test.filter
		o.want(t, options)
		unix.Close(connectAtOnce(t, loopback, closed.Port))
		if got := o.waits(t, closed.Port); len(got) != test.want {
			t.Errorf("%s: there are %v", name, got)
		}
	}
}
