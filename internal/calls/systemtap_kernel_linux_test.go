// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelNestsAsSystemTapDid makes the system calls of which SystemTap has printed the functions
// inside, and looks for each of these functions in the trees. It runs on the kernel on which SystemTap
// ran, with the kind of hooks that SystemTap used.
func TestKernelNestsAsSystemTapDid(t *testing.T) {
	kerneltest.Require(t)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	if release := unix.ByteSliceToString(name.Release[:]); !strings.HasPrefix(release, "6.1.") || runtime.GOARCH != "amd64" {
		t.Skipf("the recording is of Linux 6.1 on x86-64, and this is %s on %s", release, runtime.GOARCH)
	}
	o := observe(t, Options{AvoidHooks: []string{"kprobe.session", "kprobe.multi", "fentry.multi", "fentry"}}, func(*Calls) {})
	recording, err := os.ReadFile("testdata/systemtap-6.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	o.want(t, Options{})
	threads := map[string]int{"curl": onThread(func() { askLikeCurl(t) }), "python3": onThread(func() { serveLikePython(t) })}
	got := map[string]bool{}
	for command, thread := range threads {
		for _, tr := range o.by(t, thread) {
			for nesting := range tr.nestings() {
				got[command+" "+nesting] = true
			}
		}
	}
	for line := range strings.Lines(string(recording)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !got[line] {
			t.Errorf("SystemTap saw %q, and it is in no tree", line)
		}
	}
}

// askLikeCurl makes the calls that curl makes to fetch a file over IPv4 and IPv6.
func askLikeCurl(t *testing.T) {
	pair(t, unix.SOCK_STREAM)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		listener := must(unix.Socket(family, unix.SOCK_STREAM, 0))
		var loopback unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		if family == unix.AF_INET6 {
			loopback = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
		}
		if err := unix.Bind(listener, loopback); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(listener, 1); err != nil {
			t.Fatal(err)
		}
		client := must(unix.Socket(family, unix.SOCK_STREAM, 0))
		unix.SetsockoptInt(client, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := unix.Connect(client, must(unix.Getsockname(listener))); err != nil {
			t.Fatal(err)
		}
		unix.GetsockoptInt(client, unix.SOL_SOCKET, unix.SO_ERROR)
		unix.Getpeername(client)
		server, _, err := unix.Accept4(listener, 0)
		if err != nil {
			t.Fatal(err)
		}
		send(t, client, 80)
		send(t, server, 1000)
		receive(client)
		for _, fd := range []int{client, server, listener} {
			unix.Close(fd)
		}
	}
}

// serveLikePython makes the calls of an HTTP server, and of one that echoes datagrams.
func serveLikePython(t *testing.T) {
	listener := listenTCP(t)
	client := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	if err := unix.Connect(client, must(unix.Getsockname(listener))); err != nil {
		t.Fatal(err)
	}
	server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	send(t, client, 80)
	receive(server)
	send(t, server, 1000)
	unix.Shutdown(server, unix.SHUT_WR)
	unix.Close(server)
	unix.Close(client)

	echo := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	defer unix.Close(echo)
	if err := unix.Bind(echo, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(echo, make([]byte, 1000), 0, must(unix.Getsockname(echo))); err != nil {
		t.Fatal(err)
	}
	_, from, err := unix.Recvfrom(echo, make([]byte, 2000), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(echo, make([]byte, 1000), 0, from); err != nil {
		t.Fatal(err)
	}
}
