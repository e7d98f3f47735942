// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

// socketsThatFail are in a network namespace of their own, which has only lo.
type socketsThatFail struct {
	tcp, tcp6, udp, udp6, stream, datagram, netlink, pipe int
	path                                                  string // nothing listens there
	bound                                                 unix.Sockaddr
}

func newSocketsThatFail(t testing.TB) (s socketsThatFail) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Error(err)
	}
	setUp(t, "lo")
	s.path = filepath.Join(t.TempDir(), "socket")
	s.tcp, s.udp = must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)), must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	s.tcp6, s.udp6 = must(unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)), must(unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0))
	s.stream, s.datagram = must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)), must(unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0))
	s.netlink = must(unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_USERSOCK))
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Error(err)
	}
	s.pipe = pipe[0]
	unix.Close(pipe[1])
	bound := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	if err := unix.Bind(bound, &unix.SockaddrUnix{Name: s.path + ".bound"}); err != nil {
		t.Error(err)
	}
	s.bound = must(unix.Getsockname(bound))
	t.Cleanup(func() {
		for _, fd := range []int{s.tcp, s.udp, s.tcp6, s.udp6, s.stream, s.datagram, s.netlink, s.pipe, bound} {
			unix.Close(fd)
		}
	})
	return s
}

func setUp(t testing.TB, device string) {
	t.Helper()
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	defer unix.Close(fd)
	request := must(unix.NewIfreq(device))
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Error(err)
	}
}

var nowhere = &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}
var forbidden = &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 66}}
var everywhere = &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 255, 255, 255}}
var mapped = &unix.SockaddrInet6{Port: 9, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: 1}}
var nowhere6 = &unix.SockaddrInet6{Port: 9, Addr: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}}

// failing is a call that fails.
type failing struct {
	name, syscall, error, where string // BOUND stands for the name of that socket
	call                        func(s socketsThatFail) error
	few                         bool // it is seen where only few functions are
}

// noNews has one call for each expected failure in the table of docs/calls.md.
var noNews = []failing{
	{"a Unix socket that is not there", "connect", "ENOENT", "PATH", func(s socketsThatFail) error { return unix.Connect(s.stream, &unix.SockaddrUnix{Name: s.path}) }, true},
	{"an abstract name that nobody has", "connect", "ECONNREFUSED", "@nobody has this", func(s socketsThatFail) error {
		return unix.Connect(s.stream, &unix.SockaddrUnix{Name: "@nobody has this"})
	}, true},
	{"a datagram for one", "sendto", "ENOENT", "PATH", func(s socketsThatFail) error {
		return unix.Sendto(s.datagram, []byte{1}, 0, &unix.SockaddrUnix{Name: s.path})
	}, true},
	{"a message for one", "sendmsg", "ENOENT", "PATH", func(s socketsThatFail) error {
		return unix.Sendmsg(s.datagram, []byte{1}, nil, &unix.SockaddrUnix{Name: s.path}, 0)
	}, true},
	{"a message of a process that has ended", "sendmsg", "ESRCH", "PATH", func(s socketsThatFail) error {
		nobody := unix.UnixCredentials(&unix.Ucred{Pid: 1 << 30})
		return unix.Sendmsg(s.datagram, []byte{1}, nobody, &unix.SockaddrUnix{Name: s.path}, 0)
	}, true},
	{"a request of a client that has left", "recvfrom", "ECONNRESET", "", func(s socketsThatFail) error { return receiveAfter(s.path+".left", false) }, true},
	{"a way for IPv6", "connect", "ENETUNREACH", "[2001:db8::1]:9", func(s socketsThatFail) error { return unix.Connect(s.udp6, nowhere6) }, true},
	{"an event for nobody", "sendto", "ECONNREFUSED", "", func(s socketsThatFail) error {
		return unix.Sendto(s.netlink, make([]byte, 16), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 1 << 30})
	}, true},
	{"the peer of a socket that has none", "getpeername", "ENOTCONN", "", func(s socketsThatFail) error { return second(unix.Getpeername(s.tcp)) }, true},
	{"whether it is a socket", "getpeername", "ENOTSOCK", "", func(s socketsThatFail) error { return second(unix.Getpeername(s.pipe)) }, true},
	{"the end of what is no connection", "shutdown", "ENOTCONN", "", func(s socketsThatFail) error { return unix.Shutdown(s.tcp, unix.SHUT_RDWR) }, true},
	{"to set an option that is not there", "setsockopt", "ENOPROTOOPT", "", func(s socketsThatFail) error {
		return unix.SetsockoptInt(s.tcp, unix.SOL_SOCKET, 9999, 1)
	}, true},
	{"to set one of another kind of sockets", "setsockopt", "EOPNOTSUPP", "", func(s socketsThatFail) error {
		return unix.SetsockoptInt(s.stream, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	}, true},
	{"an option that is not there", "getsockopt", "ENOPROTOOPT", "", func(s socketsThatFail) error {
		return second(unix.GetsockoptInt(s.tcp, unix.SOL_SOCKET, 9999))
	}, false},
	{"whether it is a terminal", "ioctl", "ENOTTY", "", func(s socketsThatFail) error { return second(unix.IoctlGetTermios(s.tcp, unix.TCGETS)) }, false},
	{"a family that is not there", "socket", "EAFNOSUPPORT", "", func(socketsThatFail) error { return second(unix.Socket(63, unix.SOCK_STREAM, 0)) }, false},
	{"a protocol that is not there", "socket", "EPROTONOSUPPORT", "", func(socketsThatFail) error {
		return second(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 200))
	}, false},
	{"a way to ping without privileges", "socket", "EACCES", "", func(socketsThatFail) error { // the group is in no range of a new namespace
		return second(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP))
	}, false},
}

// news has calls whose failures are not expected.
var news = []failing{
	{"a Unix socket where nobody listens", "connect", "ECONNREFUSED", "BOUND", func(s socketsThatFail) error { return unix.Connect(s.stream, s.bound) }, true},
	{"no way", "connect", "ENETUNREACH", "192.0.2.1:9", func(s socketsThatFail) error { return unix.Connect(s.tcp, nowhere) }, true},
	{"no way for IPv6", "connect", "ENETUNREACH", "[2001:db8::1]:9", func(s socketsThatFail) error { return unix.Connect(s.tcp6, nowhere6) }, true},
	{"no way for a datagram", "connect", "ENETUNREACH", "192.0.2.1:9", func(s socketsThatFail) error { return unix.Connect(s.udp, nowhere) }, true},
	{"no way for IPv4 by IPv6", "connect", "ENETUNREACH", "192.0.2.1:9", func(s socketsThatFail) error { return unix.Connect(s.tcp6, mapped) }, true},
	{"a datagram that cannot leave", "sendto", "ENETUNREACH", "192.0.2.1:9", func(s socketsThatFail) error { return unix.Sendto(s.udp, []byte{1}, 0, nowhere) }, true},
	{"a message that cannot leave", "sendmsg", "ENETUNREACH", "[2001:db8::1]:9", func(s socketsThatFail) error {
		return unix.Sendmsg(s.udp6, []byte{1}, nil, nowhere6, 0)
	}, true},
	{"messages that cannot leave", "sendmmsg", "ENETUNREACH", "192.0.2.1:9", func(s socketsThatFail) error {
		_, err := sendAll(s.udp, 2, &unix.RawSockaddrInet4{Family: unix.AF_INET, Port: 9 << 8, Addr: nowhere.Addr})
		return err
	}, true},
	{"a datagram that is too long", "sendto", "EMSGSIZE", "192.0.2.1:9", func(s socketsThatFail) error { return unix.Sendto(s.udp, make([]byte, 1<<16), 0, nowhere) }, true},
	{"a datagram for everybody", "sendto", "EACCES", "127.255.255.255:9", func(s socketsThatFail) error { return unix.Sendto(s.udp, []byte{1}, 0, everywhere) }, true},
	{"a datagram that is forbidden", "sendto", "EPERM", "192.0.2.66:9", func(s socketsThatFail) error { return unix.Sendto(s.udp, []byte{1}, 0, forbidden) }, true},
	{"a datagram for an address of another kind", "sendto", "EAFNOSUPPORT", "[2001:db8::1]:9", func(s socketsThatFail) error {
		return unix.Sendto(s.udp, []byte{1}, 0, nowhere6)
	}, true},
	{"an address that cannot be read", "sendto", "EFAULT", "", func(s socketsThatFail) error { return sendToAddressAt(s.udp, 1) }, true},
	{"an address of another machine", "bind", "EADDRNOTAVAIL", "192.0.2.1:9", func(s socketsThatFail) error { return unix.Bind(s.tcp, nowhere) }, false},
	{"one of another machine by IPv6", "bind", "EADDRNOTAVAIL", "[2001:db8::1]:9", func(s socketsThatFail) error { return unix.Bind(s.tcp6, nowhere6) }, false},
	{"a name that another socket has", "bind", "EADDRINUSE", "BOUND", func(s socketsThatFail) error { return unix.Bind(s.stream, s.bound) }, false},
	{"a path in no directory", "bind", "ENOENT", "PATH/none", func(s socketsThatFail) error { return unix.Bind(s.stream, &unix.SockaddrUnix{Name: s.path + "/none"}) }, false},
	{"a Unix connection that its peer has closed", "sendto", "EPIPE", "PATH.closed", func(s socketsThatFail) error { return sendToClosed(s.path + ".closed") }, true},
	{"an answer of a server that has left", "recvfrom", "ECONNRESET", "PATH.gone", func(s socketsThatFail) error { return receiveAfter(s.path+".gone", true) }, true},
	{"a value that an option cannot have", "setsockopt", "EINVAL", "", func(s socketsThatFail) error {
		return unix.SetsockoptInt(s.tcp, unix.SOL_TCP, unix.TCP_KEEPIDLE, -1)
	}, true},
	{"to read from what is no connection", "recvfrom", "EINVAL", "", func(s socketsThatFail) error {
		_, _, err := unix.Recvfrom(s.stream, make([]byte, 1), 0)
		return err
	}, true},
}

// sendToAddressAt sends a byte to the socket address that is at an address of memory.
func sendToAddressAt(fd int, address uintptr) error {
	content := []byte{1}
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&content[0])), 1, 0, address, unix.SizeofSockaddrInet4)
	return errno
}

// sendToClosed sends to a Unix socket that was bound to a path and has been closed.
func sendToClosed(path string) error {
	client, server, err := connectAt(path)
	defer unix.Close(client)
	if err := errors.Join(err, unix.Close(server)); err != nil {
		return err
	}
	return unix.Sendto(client, []byte{1}, unix.MSG_NOSIGNAL, nil)
}

// receiveAfter receives on a connection to a Unix socket at a path, of which the other end has been closed before
// something was read there. The end that receives is the client's or the server's.
func receiveAfter(path string, ofClient bool) error {
	stays, leaves, err := connectAt(path)
	if !ofClient {
		stays, leaves = leaves, stays
	}
	defer unix.Close(stays)
	if err := errors.Join(err, unix.Sendto(stays, []byte{1}, 0, nil), unix.Close(leaves)); err != nil {
		return err
	}
	_, _, err = unix.Recvfrom(stays, make([]byte, 1), 0)
	return err
}

// connectAt makes a connection to a Unix socket that is at a path for a moment.
func connectAt(path string) (client, server int, err error) {
	listener := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	client = must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	address := &unix.SockaddrUnix{Name: path}
	err = errors.Join(unix.Bind(listener, address), unix.Listen(listener, 1), unix.Connect(client, address))
	server, _, acceptErr := unix.Accept(listener)
	return client, server, errors.Join(err, acceptErr, unix.Close(listener), os.Remove(path))
}

// forbid makes the kernel refuse to send to one address.
func forbid(t testing.TB, to *unix.SockaddrInet4) {
	t.Helper()
	const userIP4 = 4 // the offset of user_ip4 in struct bpf_sock_addr
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupUDP4Sendmsg, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, userIP4, asm.Word),
			asm.Mov.Imm(asm.R0, 0),
			asm.JEq.Imm32(asm.R1, int32(binary.NativeEndian.Uint32(to.Addr[:])), "end"),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return().WithSymbol("end"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	l, err := link.AttachCgroup(link.CgroupOptions{Path: directoryOf(t, "/"), Attach: ebpf.AttachCGroupUDP4Sendmsg, Program: program})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func second[T any](_ T, err error) error { return err }

func (s socketsThatFail) where(words string) string {
	return strings.NewReplacer("PATH", s.path, "BOUND", s.bound.(*unix.SockaddrUnix).Name).Replace(words)
}

// fail makes calls, and returns what must be reported of those that the fixture can see.
func (o *fixture) fail(t testing.TB, s socketsThatFail, calls []failing) (want []reported) {
	t.Helper()
	for _, f := range calls {
		number, _ := ErrnoNumber(f.error)
		if err := f.call(s); !errors.Is(err, unix.Errno(number)) {
			t.Errorf("%s: %s ends with %v, not with %s", f.name, f.syscall, err, f.error)
		}
		if o.functions() && o.few && !f.few || f.syscall == "ioctl" && !o.seesFail("sock_ioctl") {
			continue
		}
		want = append(want, reported{Syscall: f.syscall, Kept: "failed", Error: f.error, Failed: true, Where: s.where(f.where)})
	}
	return want
}

// seesFail reports whether the fixture sees that a function fails. The BTF of some kernels has no types
// of static functions.
func (o *fixture) seesFail(name string) bool {
	return o.functions() && slices.ContainsFunc(o.calls.emitter.functions, func(f function) bool { return f.name == name && f.fails })
}

// reported is what a tree says of how its call ended.
type reported struct {
	Syscall, Kept string
	Error, Errno  any
	Failed        bool
	Where         string // the address that was passed to the call
}

// whereOf returns the address of an end of a socket, such as "192.0.2.1:9" or "/run/socket", or "".
func whereOf(tr tree, end string) string {
	address, _ := tr.value("network." + end + ".address").(string)
	if port, ok := tr.value("network." + end + ".port").(int64); ok {
		return net.JoinHostPort(address, strconv.FormatInt(port, 10))
	}
	return address
}

func (o *fixture) reported(t testing.TB, thread int) (all []reported) {
	t.Helper()
	for _, tr := range o.by(t, thread) {
		syscall, _ := tr.value("nettap.call.syscall").(string)
		kept, _ := tr.value(RootAttribute).(string)
		end := "peer"
		if tr.root.Name() == "bind" {
			end = "local"
		}
		all = append(all, reported{
			Syscall: syscall, Kept: kept, Error: tr.value("error.type"), Errno: tr.value("nettap.call.errno"),
			Failed: tr.root.Status().Code() == ptrace.StatusCodeError, Where: whereOf(tr, end),
		})
	}
	return all
}

// expectedFailures requires that expected failures are reported only if all failures are, each with the
// address that was passed to the call.
func expectedFailures(t testing.TB, o *fixture) {
	forbid(t, forbidden)
	for name, test := range map[string]struct {
		errnos   Errnos
		reported bool // whether expected failures are reported, too
	}{
		"unexpected": {errnos: Errnos{Unexpected: true}},
		"always":     {errnos: Errnos{All: true}, reported: true},
	} {
		var want []reported
		thread := onThread(func() {
			s := newSocketsThatFail(t)
			o.want(t, Options{MinDuration: time.Hour, Errors: test.errnos})
			expected := o.fail(t, s, noNews)
			if test.reported {
				want = expected
			}
			want = append(want, o.fail(t, s, news)...)
		})
		if diff := gocmp.Diff(want, o.reported(t, thread)); diff != "" {
			t.Errorf("calls with errors: %s differ (-want +got):\n%s", name, diff)
		}
	}
}

// expectedByChance requires that an expected failure in the sample is not reported as a failure.
func expectedByChance(t testing.TB, o *fixture) {
	thread := onThread(func() {
		s := newSocketsThatFail(t)
		o.want(t, Options{MinDuration: time.Hour, SampleRatio: 1, Errors: Errnos{Unexpected: true}})
		unix.Shutdown(s.tcp, unix.SHUT_RDWR)
		unix.Connect(s.tcp, nowhere)
	})
	want := []reported{
		{Syscall: "shutdown", Kept: "sampled", Errno: "ENOTCONN"},
		{Syscall: "connect", Kept: "failed", Error: "ENETUNREACH", Failed: true, Where: "192.0.2.1:9"},
	}
	if diff := gocmp.Diff(want, o.reported(t, thread)); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

// expectedOfThreads has the expected failures for which a thread must have certain properties.
func expectedOfThreads(t testing.TB, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	if err := unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		t.Fatal(err)
	}
	o.want(t, Options{MinDuration: time.Hour, Errors: Errnos{Unexpected: true}})
	ready, done := make(chan int), make(chan error)
	go onThread(func() {
		ready <- unix.Gettid()
		_, _, err := unix.Recvfrom(fds[0], make([]byte, 1), 0)
		done <- err
	})
	interrupted := <-ready
	awaitReceive(t, interrupted)
	if err := unix.Tgkill(unix.Getpid(), interrupted, unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, unix.EINTR) {
		t.Errorf("the call that a signal interrupts ends with %v", err)
	}
	unprivileged := onThread(func() {
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			t.Error(err)
		}
		for option, name := range map[int]string{unix.SO_SNDBUFFORCE: "a buffer", unix.SO_PRIORITY: "a priority"} {
			if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, option, 7); err != unix.EPERM {
				t.Errorf("to force %s ends with %v", name, err)
			}
		}
	})
	if got := o.reported(t, interrupted); len(got) > 0 {
		t.Errorf("of the call that a signal interrupts there is %+v", got)
	}
	want := []reported{{Syscall: "setsockopt", Kept: "failed", Error: "EPERM", Failed: true}} // for setting the priority
	if diff := gocmp.Diff(want, o.reported(t, unprivileged)); diff != "" {
		t.Errorf("calls of a thread without privileges differ (-want +got):\n%s", diff)
	}
}
