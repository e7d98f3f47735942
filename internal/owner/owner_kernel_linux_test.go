// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"net"
	"os"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelOwnersForgetApart has two instruments' views of what is known of this process,
// which uses a socket. A process that one has forgotten the other one still has; one that
// both have forgotten makes room, and is another one when it uses a socket again.
func TestKernelOwnersForgetApart(t *testing.T) {
	one := New(Options{MaxProcesses: 1024})
	other := one.Another()
	kerneltest.Start(t, one)
	kerneltest.Start(t, other)
	use := user(t)

	use()
	first, self := find(t, one)
	if !self.Alive || self.Seen.Comm == "" || self.Seen.Executable == "" || self.ID.UserID != uint32(os.Geteuid()) {
		t.Errorf("this process is known as %+v", self)
	}
	if number, same := find(t, other); number != first || same != self {
		t.Errorf("the other view has number %d, %+v, want %d, %+v", number, same, first, self)
	}

	if err := one.Forget(first, self.ID); err != nil {
		t.Fatal(err)
	}
	if number, _ := find(t, one); number != 0 {
		t.Errorf("forgotten number %d is there", number)
	}
	if number, _ := find(t, other); number != first {
		t.Errorf("the other view has number %d, want %d", number, first)
	}
	if err := other.Forget(first, self.ID); err != nil {
		t.Fatal(err)
	}
	if number, _ := find(t, other); number != 0 {
		t.Errorf("number %d is there that both have forgotten", number)
	}
	if err := other.Forget(first, self.ID); err != nil {
		t.Errorf("forget what is forgotten: %v", err)
	}

	user(t)() // the old socket is the old number's
	again, self := find(t, one)
	if again == 0 || again == first {
		t.Errorf("after it used a socket again this process has number %d, and had %d", again, first)
	}
	if number, same := find(t, other); number != again || same != self {
		t.Errorf("the other view has number %d, %+v, want %d, %+v", number, same, again, self)
	}
}

// user returns what uses a socket: it sends a datagram to itself and receives it.
func user(t *testing.T) func() {
	t.Helper()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return func() {
		t.Helper()
		if _, err := socket.WriteTo([]byte("datagram"), socket.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := socket.ReadFrom(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
}

// find surveys, and returns this process and its number, 0 if it is not known.
func find(t *testing.T, o *Owners) (number uint64, found Process) {
	t.Helper()
	if err := o.Survey(); err != nil {
		t.Fatal(err)
	}
	all, err := o.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for n, p := range all {
		if p.ID.PID == uint32(os.Getpid()) {
			if number != 0 {
				t.Errorf("this process has numbers %d and %d", number, n)
			}
			number, found = n, p
		}
	}
	return number, found
}
