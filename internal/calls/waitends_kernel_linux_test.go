// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// unexpectedWaits are the waits at the default of Errors.
var unexpectedWaits = Options{MinDuration: slowWaits.MinDuration, Waits: true, Errors: Errnos{Unexpected: true}}

// halfClosed has a client that says that it sends no more. The server closes the connection after its answer, which ends it
// for the kernel before the client has read.
func halfClosed(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(client)
	m := moments{asked: time.Now()}
	send(t, client, 5)
	if err := unix.Shutdown(client, unix.SHUT_WR); err != nil {
		t.Error(err)
	}
	receive(server)
	time.Sleep(thinks)
	m.ready = time.Now()
	send(t, server, 7)
	unix.Close(server)
	awaitReadable(t, client)
	time.Sleep(lies)
	m.read = time.Now()
	if n := receive(client); n != 7 {
		t.Errorf("the client has received %d bytes", n)
	}
	o.wantWaits(t, port, m.answer("tcp", int64(port)))
}

// halfGivenUp has clients that end their half of the connection and then all of it, without an answer. The server's kernel
// does not acknowledge the first of these at once.
func halfGivenUp(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(server)
	m := moments{asked: time.Now()}
	send(t, client, 5)
	receive(server)
	time.Sleep(thinks)
	m.read = time.Now()
	if err := errors.Join(unix.Shutdown(client, unix.SHUT_WR), unix.Close(client)); err != nil {
		t.Error(err)
	}
	o.wantWaits(t, port, m.failed("receive", "given_up", int64(port)))
}

// timedReceive has a call that waits for an answer, but not for ever. That wait is the call's.
func timedReceive(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server := connectTCP(t)
	port := int(localOf(server).Port())
	limit := unix.NsecToTimeval(int64(thinks))
	if err := unix.SetsockoptTimeval(client, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	thread := onThread(func() {
		send(t, client, 5)
		receive(client)
		unix.Close(client)
	})
	o.wantWaits(t, port)
	want := []deed{{Syscall: "recvfrom", FD: int64(client), Transport: "tcp", Kept: "slow", BlockedOn: "receive_queue"}}
	if diff := gocmp.Diff(want, o.deeds(t, thread)); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

// reset closes a connection in a way that resets it.
func reset(t testing.TB, fd int) {
	t.Helper()
	if err := errors.Join(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), unix.Close(fd)); err != nil {
		t.Error(err)
	}
}

// connectionThatIsReset is one on which nothing was sent. The server's kernel has accepted it, and its program does not want it.
func connectionThatIsReset(t testing.TB, o *fixture) {
	o.want(t, unexpectedWaits)
	m := moments{asked: time.Now()}
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(client)
	time.Sleep(lies)
	m.read = time.Now()
	reset(t, server)
	if errno := must(unix.GetsockoptInt(client, unix.SOL_SOCKET, unix.SO_ERROR)); unix.Errno(errno) != unix.ECONNRESET {
		t.Errorf("the connection ended with %v", unix.Errno(errno))
	}
	o.wantWaits(t, port, m.failed("connect", "ECONNRESET", int64(port)))
	// One on which something was sent has been made.
	client, server, port = connectWithoutBlocking(t)
	defer unix.Close(client)
	send(t, server, 1)
	receive(client)
	reset(t, server)
	o.wantWaits(t, port)
}

// bothConnect has two ends that connect to each other. The other one is this test, which sends what its kernel would.
func bothConnect(t testing.TB, o *fixture) {
	here, there := [4]byte{192, 0, 2, 2}, [4]byte{192, 0, 2, 1}
	o.want(t, unexpectedWaits)
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		device := netlink.NewVeth(netlink.LinkAttrs{Name: "here"})
		device.PeerName = "there"
		if err := netlink.LinkAdd(device); err != nil {
			t.Fatal(err)
		}
		setUp(t, "lo")
		setUp(t, "here")
		setUp(t, "there")
		if err := netlink.AddrAdd(must(netlink.LinkByName("here")), &netlink.Addr{IPNet: &net.IPNet{IP: here[:], Mask: net.CIDRMask(24, 32)}}); err != nil {
			t.Fatal(err)
		}
		raw := must(unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW))
		defer unix.Close(raw)
		client := connectAtOnce(t, there, nowhere.Port)
		defer unix.Close(client)
		port := localOf(client).Port()
		for sequence, flags := range []byte{flagSYN, flagRST} {
			if err := unix.Sendto(raw, segment(there, here, uint16(nowhere.Port), port, uint32(sequence), flags), 0, &unix.SockaddrInet4{Addr: here}); err != nil {
				t.Error(err)
			}
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(client), Events: unix.POLLOUT}}, 10_000); n != 1 {
			t.Errorf("the connect does not end: %v", err)
		}
		if errno := must(unix.GetsockoptInt(client, unix.SOL_SOCKET, unix.SO_ERROR)); unix.Errno(errno) != unix.ECONNRESET {
			t.Errorf("the connection ended with %v", unix.Errno(errno))
		}
	})
	o.wantWaits(t, nowhere.Port, moments{}.failed("connect", "ECONNRESET", int64(nowhere.Port)))

	// A socket can connect to itself, which succeeds.
	o.want(t, Options{MinDuration: time.Hour, SampleRatio: 1, Waits: true})
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0))
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		t.Fatal(err)
	}
	own := must(unix.Getsockname(fd))
	if err := unix.Connect(fd, own); err != unix.EINPROGRESS {
		t.Errorf("connect to itself: %v", err)
	}
	port := int(localOf(fd).Port())
	o.wantWaits(t, port, waited{Kind: "connect", Kept: "sampled", Transport: "tcp", Port: int64(port)})
}

const (
	flagSYN = 2
	flagRST = 4
)

// segment returns a packet with a TCP segment without data.
func segment(from, to [4]byte, fromPort, toPort uint16, sequence uint32, flags byte) []byte {
	header := make([]byte, 20)
	header[0], header[8], header[9] = 0x45, 64, unix.IPPROTO_TCP // the kernel adds the length and the checksum
	copy(header[12:], from[:])
	copy(header[16:], to[:])
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, fromPort)
	binary.BigEndian.PutUint16(tcp[2:], toPort)
	binary.BigEndian.PutUint32(tcp[4:], sequence)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 1<<15)
	var sum uint32
	for _, words := range [][]byte{header[12:], {0, unix.IPPROTO_TCP, 0, byte(len(tcp))}, tcp} {
		for ; len(words) > 0; words = words[2:] {
			sum += uint32(binary.BigEndian.Uint16(words))
		}
	}
	for ; sum > 0xffff; sum = sum&0xffff + sum>>16 {
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	return slices.Concat(header, tcp)
}

// connectionsOfMPTCP are made by a subflow, whose connect is reported, and not the one of the whole.
func connectionsOfMPTCP(t testing.TB, o *fixture) {
	listener, silent, closed := listenTCP(t), silentPort(t, loopback, 0), closedPort(t).(*unix.SockaddrInet4).Port
	open := int(localOf(listener).Port())
	begin := func(port int) (client int) {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, unix.IPPROTO_MPTCP)
		if err != nil {
			return -1
		}
		if err := unix.Connect(client, &unix.SockaddrInet4{Addr: loopback, Port: port}); err != unix.EINPROGRESS {
			t.Errorf("connect: %v", err)
		}
		return client
	}
	o.want(t, Options{MinDuration: time.Hour, SampleRatio: 1, Waits: true, Errors: Errnos{Unexpected: true}})
	client := begin(open)
	if client < 0 {
		return // this kernel has no MPTCP
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(client), Events: unix.POLLOUT}}, 10_000); n != 1 {
		t.Errorf("the connect does not end: %v", err)
	}
	o.wantWaits(t, open, waited{Kind: "connect", Kept: "sampled", Transport: "tcp", Port: int64(open)})
	unix.Close(client)

	o.want(t, unexpectedWaits)
	unix.Close(begin(closed))
	o.wantWaits(t, closed, moments{}.failed("connect", "ECONNREFUSED", int64(closed)))

	m := moments{asked: time.Now()}
	client = begin(silent)
	time.Sleep(thinks)
	m.read = time.Now()
	unix.Close(client)
	var got []waited
	for _, tr := range o.collect(t) {
		if w, ok := waitOf(tr); ok && w.Error != "ECONNREFUSED" {
			got = append(got, w)
		}
	}
	if diff := gocmp.Diff([]waited{m.failed("connect", "given_up", int64(silent))}, got, about); diff != "" {
		t.Errorf("waits differ (-want +got):\n%s", diff)
	}
}

// toldFailures has calls that return the errors of waits, which are no failures of their own.
func toldFailures(t testing.TB, o *fixture) {
	listener, closed := listenTCP(t), closedPort(t).(*unix.SockaddrInet4)
	for name, test := range map[string]struct {
		wait string
		with string
		call func(t testing.TB) (port int)
	}{
		"by connecting again": {"connect", "ECONNREFUSED", func(t testing.TB) int {
			client := connectAtOnce(t, loopback, closed.Port)
			defer unix.Close(client)
			if err := unix.Connect(client, closed); err != unix.ECONNREFUSED {
				t.Errorf("the second connect: %v", err)
			}
			return closed.Port
		}},
		"by sending": {"connect", "ECONNREFUSED", func(t testing.TB) int {
			client := connectAtOnce(t, loopback, closed.Port)
			defer unix.Close(client)
			if err := unix.Sendto(client, make([]byte, 1), 0, nil); err != unix.ECONNREFUSED {
				t.Errorf("send: %v", err)
			}
			return closed.Port
		}},
		"by receiving": {"receive", "ECONNRESET", func(t testing.TB) int {
			client, server, port := connectWithoutBlocking(t)
			defer unix.Close(client)
			send(t, client, 5)
			reset(t, server)
			if _, _, err := unix.Recvfrom(client, make([]byte, 1), 0); err != unix.ECONNRESET {
				t.Errorf("receive: %v", err)
			}
			return port
		}},
	} {
		o.want(t, unexpectedWaits)
		var port int
		thread := onThread(func() {
			localOf(listener) // from its second call on, a thread has a place
			port = test.call(t)
		})
		o.wantFailure(t, name, port, test.wait, test.with)
		for _, d := range o.deeds(t, thread) {
			if d.Kept == "failed" && d.Syscall != "" { // waits have no system call
				t.Errorf("%s: a call has failed, too: %+v", name, d)
			}
		}
		// A failure that no wait has told of is one.
		thread = onThread(func() {
			client := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
			defer unix.Close(client)
			unix.Connect(client, closed) //nolint:errcheck // it fails
		})
		want := []deed{{Syscall: "connect", Transport: "tcp", Error: "ECONNREFUSED", Kept: "failed"}}
		got := o.deeds(t, thread)
		for i := range got {
			got[i].FD, got[i].BlockedOn = nil, nil
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("calls differ (-want +got):\n%s", diff)
		}
	}
}

// wantFailure requires one wait, which failed.
func (o *fixture) wantFailure(t testing.TB, name string, port int, kind, with string) {
	t.Helper()
	got := o.waits(t, port)
	if len(got) != 1 || got[0].Kind != kind || got[0].Error != with {
		t.Errorf("%s: there are %+v", name, got)
	}
}

// unansweredNames has clients of a name server, on a port of which no other test knows, in a network namespace of its own.
func unansweredNames(t testing.TB, o *fixture) {
	o.want(t, unexpectedWaits)
	const port = 53
	var m moments
	thread := onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		setUp(t, "lo")
		server := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
		if err := unix.Bind(server, &unix.SockaddrInet4{Addr: loopback, Port: port}); err != nil {
			t.Fatal(err)
		}
		address := must(unix.Getsockname(server))
		ask := func(address unix.Sockaddr) (client int) {
			client = must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0))
			if err := unix.Connect(client, address); err != nil {
				t.Error(err)
			}
			send(t, client, 5)
			return client
		}
		m.asked = time.Now()
		client := ask(address) // it gives up, but not as one of two descriptors is closed
		other := must(unix.Dup(client))
		time.Sleep(lies)
		unix.Close(client)
		time.Sleep(thinks - lies)
		m.read = time.Now()
		unix.Close(other)
		unix.Close(ask(address)) // it does not wait
		answered := ask(address)
		if err := unix.Sendto(server, make([]byte, 7), 0, must(unix.Getsockname(answered))); err != nil {
			t.Error(err)
		}
		awaitReadable(t, answered)
		receive(answered)
		time.Sleep(lies)
		unix.Close(answered)
		other = must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)) // nobody says that this one answers
		if err := unix.Bind(other, &unix.SockaddrInet4{Addr: loopback}); err != nil {
			t.Error(err)
		}
		log := ask(must(unix.Getsockname(other)))
		time.Sleep(lies)
		unix.Close(log)
		unix.Close(other)
		unix.Close(server)
		refused := ask(address) // by the time that it is closed, poll has told of it
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(refused), Events: unix.POLLIN}}, 10_000); n != 1 {
			t.Errorf("no error comes: %v", err)
		}
		unix.Close(refused)
	})
	givenUp, refused := m.failed("receive", "given_up", int64(port)), moments{}.failed("receive", "ECONNREFUSED", int64(port))
	givenUp.Transport, refused.Transport = "udp", "udp"
	o.wantWaitsBy(t, thread, givenUp, refused)
}
