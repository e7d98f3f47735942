// SPDX-License-Identifier: Apache-2.0

package closings

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// observe starts Closings that have so many places; 0 is as many as usual.
func observe(t *testing.T, places int) *Closings {
	t.Helper()
	c := New(nil)
	c.places = places
	kerneltest.Require(t)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Enable(); err != nil {
		t.Fatal(err)
	}
	return c
}

// endsOf awaits n ends of connections to a port: those that were made, and how many came in.
func endsOf(t *testing.T, c *Closings, port uint16, n int) (made []Closing, incoming int) {
	t.Helper()
	for deadline := time.Now().Add(kerneltest.Patience); len(made)+incoming < n && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		ended, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range ended {
			switch {
			case e.Incoming && e.Local.Port() == port:
				incoming++
			case !e.Incoming && e.Peer.Port() == port:
				made = append(made, e)
			}
		}
	}
	return made, incoming
}

// A connection whose place another one has is kept elsewhere.
func TestKernelKnowsWhoBeganEachOfManyOpenConnections(t *testing.T) {
	for name, test := range map[string]struct {
		places int
		listen string
	}{
		"that have places":    {listen: "127.0.0.1:0"},
		"that have no places": {places: 1, listen: "127.0.0.1:0"},
		"of IPv6":             {listen: "[::1]:0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := observe(t, test.places)
			listener := kerneltest.Listen(t, test.listen)
			address := listener.Addr().(*net.TCPAddr).AddrPort()
			const connections = 200
			began := time.Now()
			var open []net.Conn
			var local []netip.AddrPort
			for range connections {
				client := kerneltest.Dial(t, listener.Addr())
				server := kerneltest.Accept(t, listener)
				open = append(open, client, server)
				local = append(local, client.LocalAddr().(*net.TCPAddr).AddrPort())
			}
			for _, end := range open {
				end.Close()
			}
			made, incoming := endsOf(t, c, address.Port(), 2*connections)
			var got []netip.AddrPort
			for _, e := range made {
				got = append(got, e.Local)
				lasted := time.Duration(e.Closed - e.Established)
				if int(e.Process.PID) != os.Getpid() || lasted <= 0 || lasted > time.Since(began) || e.ClosedBy != Local {
					t.Errorf("an end is %+v, want one that process %d began and closed", e, os.Getpid())
				}
			}
			if diff := cmp.Diff(local, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" || incoming != connections {
				t.Errorf("%d connections came in, want %d, and those that were made differ (-want +got):\n%s", incoming, connections, diff)
			}
		})
	}
}

// A socket that connects to itself has a handshake of two sides that both connect.
func TestKernelReportsTheEndOfAConnectionThatBothBegan(t *testing.T) {
	c := observe(t, 0)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := unix.Connect(fd, own); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	if _, err := unix.Write(fd, buffer); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Read(fd, buffer); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	made, incoming := endsOf(t, c, uint16(own.(*unix.SockaddrInet4).Port), 1)
	if len(made) != 1 || incoming != 0 {
		t.Fatalf("%d ends and %d of incoming connections, want one and none", len(made), incoming)
	}
	e := made[0]
	lasted := time.Duration(e.Closed - e.Established)
	if int(e.Process.PID) != os.Getpid() || e.BytesSent != 100 || e.BytesReceived != 100 || lasted <= 0 || lasted > time.Since(began) {
		t.Errorf("the end is %+v, want that of 100 bytes from process %d to itself", e, os.Getpid())
	}
}
