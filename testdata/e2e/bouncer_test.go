// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// bouncerVariable is an environment variable that makes this test binary a bouncer.
const bouncerVariable = "NETTAP_TEST_BOUNCER"

// These are what a bouncer does for each line of its input that says so.
const (
	datagrams   = "datagrams"   // sends some to itself, and receives each
	connections = "connections" // makes some to itself, accepts each and closes it
)

// bouncer is a process that does known things on loopback. Guests have no other program that could.
type bouncer struct {
	*kerneltest.Program
	t      *testing.T
	output *kerneltest.Output
}

func startBouncer(t *testing.T) bouncer {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(own)
	// Signals by which Go's runtime interrupts system calls would make two calls of one.
	command.Env = append(os.Environ(), bouncerVariable+"=yes", "GODEBUG=asyncpreemptoff=1")
	command.Stderr = os.Stderr
	output := kerneltest.OutputOf(t, command)
	b := bouncer{kerneltest.StartProgram(t, command), t, output}
	output.Line() // it has its sockets
	return b
}

// do lets the process do something, and returns when it is done.
func (b bouncer) do(what string) {
	fmt.Fprintln(b.Input, what)
	b.output.Line()
}

// bounce is what a bouncer does.
func bounce() error {
	runtime.LockOSThread()
	udp, own, err := boundSocket(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	tcp, server, err := boundSocket(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	if err := unix.Listen(tcp, connected); err != nil {
		return err
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case datagrams:
			err = bounceDatagrams(udp, own)
		case connections:
			err = bounceConnections(tcp, server)
		}
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
	return nil
}

// boundSocket returns a socket on a port of loopback that the kernel has chosen.
func boundSocket(kind int) (fd int, own unix.Sockaddr, err error) {
	fd, err = unix.Socket(unix.AF_INET, kind, 0)
	if err != nil {
		return 0, nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, nil, err
	}
	own, err = unix.Getsockname(fd)
	return fd, own, err
}

func bounceDatagrams(fd int, own unix.Sockaddr) error {
	const udpAndIP = 28 // bytes of headers
	buffer := make([]byte, bouncedLength-udpAndIP)
	for range bounced {
		if err := unix.Sendto(fd, buffer, 0, own); err != nil {
			return err
		}
		if _, _, err := unix.Recvfrom(fd, buffer, 0); err != nil {
			return err
		}
	}
	return nil
}

func bounceConnections(listener int, server unix.Sockaddr) error {
	for range connected {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(client, server); err != nil {
			return err
		}
		accepted, _, err := unix.Accept(listener)
		if err != nil {
			return err
		}
		if err := unix.Close(client); err != nil {
			return err
		}
		if err := unix.Close(accepted); err != nil {
			return err
		}
	}
	return nil
}
