// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// receiveOwnByte connects a TCP socket on lo to itself, so that nobody has to accept, sends
// a byte and receives it.
func receiveOwnByte() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(causeTimeout.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte(loopback.To4())}))
	if err != nil {
		return fmt.Errorf("bind to lo: %w", err)
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	// If a signal comes, the connection is made all the same, and sending waits for it.
	if err := unix.Connect(fd, self); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("connect a socket on lo to itself: %w", err)
	}
	return exchangeByte(fd, fd)
}

func receiveUnixDatagram() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	return exchangeByte(pair[0], pair[1])
}

func exchangeByte(from, to int) error {
	if _, err := despiteSignals(func() (int, error) { return unix.Write(from, []byte("?")) }); err != nil {
		return fmt.Errorf("send a byte: %w", err)
	}
	if _, err := despiteSignals(func() (int, error) { return unix.Read(to, make([]byte, 1)) }); err != nil {
		return fmt.Errorf("receive a byte: %w", err)
	}
	return nil
}

// despiteSignals repeats a call that a signal has interrupted. Go's runtime sends signals to its
// own threads, and the kernel does not restart calls that have a timeout.
func despiteSignals(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
