// SPDX-License-Identifier: Apache-2.0

package installed

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// deedVariable is an environment variable that makes this test binary a process that does one thing with a
// port of loopback.
const deedVariable = "NETTAP_TEST_DEED"

// These are the deeds.
const (
	sends = "sends" // datagrams, and ends with its input
	fails = "fails" // to connect, since nobody listens
)

// datagrams is how many datagrams a process sends, and size how many bytes are in each.
const datagrams, size = 1000, 700

func TestMain(m *testing.M) {
	var what string
	var port int
	if n, _ := fmt.Sscan(os.Getenv(deedVariable), &what, &port); n < 2 {
		os.Exit(m.Run())
	}
	if err := do(what, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}); err != nil {
		fmt.Fprintf(os.Stderr, "a process that %s: %v\n", what, err)
		os.Exit(1)
	}
}

// deed returns the command of a process that does something.
func deed(t *testing.T, what string, port int) *exec.Cmd {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(own)
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", deedVariable, what, port))
	command.Stderr = os.Stderr
	return command
}

func do(what string, peer unix.Sockaddr) error {
	if what == fails {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, peer); err != unix.ECONNREFUSED {
			return fmt.Errorf("the connect is not refused: %w", err)
		}
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	for range datagrams {
		if err := unix.Sendto(fd, make([]byte, size), 0, peer); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
