// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"
)

// socketsThatFail are in a network namespace of their own, where nothing leads beyond lo.
type socketsThatFail struct {
	tcp, tcp6, udp, udp6, stream, datagram, netlink, pipe int
	path                                                  string // nobody listens there
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
	if err := unix.Bind(bound, &unix.SockaddrUnix{}); err != nil { // a name that the kernel chooses
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
var nowhere6 = &unix.SockaddrInet6{Port: 9, Addr: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}}

// failing is a call that fails.
type failing struct {
	name, syscall, error string
	call                 func(s socketsThatFail) error
	few                  bool // it is seen where only few functions are
}

// noNews is what the table in docs/calls.md has, each by one call.
var noNews = []failing{
	{"a Unix socket that is not there", "connect", "ENOENT", func(s socketsThatFail) error { return unix.Connect(s.stream, &unix.SockaddrUnix{Name: s.path}) }, true},
	{"a datagram for one", "sendto", "ENOENT", func(s socketsThatFail) error {
		return unix.Sendto(s.datagram, []byte{1}, 0, &unix.SockaddrUnix{Name: s.path})
	}, true},
	{"a message for one", "sendmsg", "ENOENT", func(s socketsThatFail) error {
		return unix.Sendmsg(s.datagram, []byte{1}, nil, &unix.SockaddrUnix{Name: s.path}, 0)
	}, true},
	{"a way for IPv6", "connect", "ENETUNREACH", func(s socketsThatFail) error { return unix.Connect(s.udp6, nowhere6) }, true},
	{"an event for nobody", "sendto", "ECONNREFUSED", func(s socketsThatFail) error {
		return unix.Sendto(s.netlink, make([]byte, 16), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: 1 << 30})
	}, true},
	{"the peer of a socket that has none", "getpeername", "ENOTCONN", func(s socketsThatFail) error { return second(unix.Getpeername(s.tcp)) }, true},
	{"whether it is a socket", "getpeername", "ENOTSOCK", func(s socketsThatFail) error { return second(unix.Getpeername(s.pipe)) }, true},
	{"the end of what is no connection", "shutdown", "ENOTCONN", func(s socketsThatFail) error { return unix.Shutdown(s.tcp, unix.SHUT_RDWR) }, true},
	{"to set an option that is not there", "setsockopt", "ENOPROTOOPT", func(s socketsThatFail) error {
		return unix.SetsockoptInt(s.tcp, unix.SOL_SOCKET, 9999, 1)
	}, true},
	{"to set one of another kind of sockets", "setsockopt", "EOPNOTSUPP", func(s socketsThatFail) error {
		return unix.SetsockoptInt(s.stream, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	}, true},
	{"an option that is not there", "getsockopt", "ENOPROTOOPT", func(s socketsThatFail) error {
		return second(unix.GetsockoptInt(s.tcp, unix.SOL_SOCKET, 9999))
	}, false},
	{"whether it is a terminal", "ioctl", "ENOTTY", func(s socketsThatFail) error { return second(unix.IoctlGetTermios(s.tcp, unix.TCGETS)) }, false},
	{"a family that is not there", "socket", "EAFNOSUPPORT", func(socketsThatFail) error { return second(unix.Socket(63, unix.SOCK_STREAM, 0)) }, false},
	{"a protocol that is not there", "socket", "EPROTONOSUPPORT", func(socketsThatFail) error {
		return second(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 200))
	}, false},
}

// news fails, too.
var news = []failing{
	{"a Unix socket where nobody listens", "connect", "ECONNREFUSED", func(s socketsThatFail) error { return unix.Connect(s.stream, s.bound) }, true},
	{"no way", "connect", "ENETUNREACH", func(s socketsThatFail) error { return unix.Connect(s.tcp, nowhere) }, true},
	{"no way for IPv6", "connect", "ENETUNREACH", func(s socketsThatFail) error { return unix.Connect(s.tcp6, nowhere6) }, true},
	{"no way for a datagram", "connect", "ENETUNREACH", func(s socketsThatFail) error { return unix.Connect(s.udp, nowhere) }, true},
	{"a datagram that cannot leave", "sendto", "ENETUNREACH", func(s socketsThatFail) error { return unix.Sendto(s.udp, []byte{1}, 0, nowhere) }, true},
	{"a value that an option cannot have", "setsockopt", "EINVAL", func(s socketsThatFail) error {
		return unix.SetsockoptInt(s.tcp, unix.SOL_TCP, unix.TCP_KEEPIDLE, -1)
	}, true},
	{"to read from what is no connection", "recvfrom", "EINVAL", func(s socketsThatFail) error {
		_, _, err := unix.Recvfrom(s.stream, make([]byte, 1), 0)
		return err
	}, true},
}

func second[T any](_ T, err error) error { return err }

// fail makes calls and returns those that the fixture can see, as they are to be reported.
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
		want = append(want, reported{Syscall: f.syscall, Kept: "failed", Error: f.error, Failed: true})
	}
	return want
}

// seesFail says whether the fixture sees that a function fails: not all BTF has the types of
// functions that are static.
func (o *fixture) seesFail(name string) bool {
	return o.functions() && slices.ContainsFunc(o.calls.emitter.functions, func(f function) bool { return f.name == name && f.fails })
}

// reported is what a tree says of how its call ended.
type reported struct {
	Syscall, Kept string
	Error, Errno  any
	Failed        bool
}

func (o *fixture) reported(t testing.TB, thread int) (all []reported) {
	t.Helper()
	for _, tr := range o.by(t, thread) {
		syscall, _ := tr.value("nettap.call.syscall").(string)
		kept, _ := tr.value(RootAttribute).(string)
		all = append(all, reported{
			Syscall: syscall, Kept: kept, Error: tr.value("error.type"), Errno: tr.value("nettap.call.errno"),
			Failed: tr.root.Status().Code() == ptrace.StatusCodeError,
		})
	}
	return all
}

// expectedFailures are not reported unless all failures are.
func expectedFailures(t testing.TB, o *fixture) {
	for name, test := range map[string]struct {
		errnos   Errnos
		reported bool // the failures that are no news are, too
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

// expectedByChance is of the sample, and no failure there.
func expectedByChance(t testing.TB, o *fixture) {
	thread := onThread(func() {
		s := newSocketsThatFail(t)
		o.want(t, Options{MinDuration: time.Hour, SampleRatio: 1, Errors: Errnos{Unexpected: true}})
		unix.Shutdown(s.tcp, unix.SHUT_RDWR)
		unix.Connect(s.tcp, nowhere)
	})
	want := []reported{
		{Syscall: "shutdown", Kept: "sampled", Errno: "ENOTCONN"},
		{Syscall: "connect", Kept: "failed", Error: "ENETUNREACH", Failed: true},
	}
	if diff := gocmp.Diff(want, o.reported(t, thread)); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

// expectedOfThreads are those for which a thread needs something of its own.
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
	want := []reported{{Syscall: "setsockopt", Kept: "failed", Error: "EPERM", Failed: true}} // of the priority
	if diff := gocmp.Diff(want, o.reported(t, unprivileged)); diff != "" {
		t.Errorf("calls of a thread without privileges differ (-want +got):\n%s", diff)
	}
}
