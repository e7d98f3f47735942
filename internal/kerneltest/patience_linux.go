// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Listen listens at an address of the current network namespace until the end of the test.
func Listen(t testing.TB, address string) *net.TCPListener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.(*net.TCPListener)
}

// Dial connects from the current network namespace. All waiting for the connection ends after [Patience].
func Dial(t testing.TB, to net.Addr) *net.TCPConn {
	t.Helper()
	connection, err := net.DialTimeout("tcp", to.String(), Patience)
	if err != nil {
		t.Fatal(err)
	}
	return bound(t, connection.(*net.TCPConn))
}

// Accept accepts a connection. All waiting for it ends after [Patience].
func Accept(t testing.TB, listener *net.TCPListener) *net.TCPConn {
	t.Helper()
	connection, err := bound(t, listener).AcceptTCP()
	if err != nil {
		t.Fatalf("wait for a connection: %v", err)
	}
	return bound(t, connection)
}

func bound[C interface{ SetDeadline(at time.Time) error }](t testing.TB, c C) C {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// AwaitInput waits until a socket has something to read or to accept. A timeout of the socket itself
// (SO_RCVTIMEO) is not used for that, since the kernel restarts no call with a timeout that a signal
// interrupts.
func AwaitInput(t testing.TB, fd int) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		switch {
		case n == 1:
			return
		case err == nil:
			t.Fatalf("descriptor %d had nothing to read for %v", fd, Patience)
		case !errors.Is(err, unix.EINTR):
			t.Fatalf("wait for something to read: %v", err)
		}
	}
}

// AcceptOn accepts a connection on a listening socket, and returns its descriptor.
func AcceptOn(t testing.TB, listener int) (connection int) {
	t.Helper()
	AwaitInput(t, listener)
	connection, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatalf("accept a connection: %v", err)
	}
	return connection
}

// Output is what a process prints.
type Output struct {
	lines *bufio.Reader
	t     testing.TB
	pipe  *os.File
}

// OutputOf returns the output of a command that is not started yet.
func OutputOf(t testing.TB, command *exec.Cmd) *Output {
	t.Helper()
	pipe, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return &Output{bufio.NewReader(pipe), t, pipe.(*os.File)}
}

// Line waits for the next line, and returns it without its end.
func (o *Output) Line() string {
	o.t.Helper()
	bound(o.t, o.pipe)
	line, err := o.lines.ReadString('\n')
	if err != nil {
		o.t.Fatalf("wait for a line of another process, which has said %q so far: %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}
