// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// causeTimeout bounds each step of a cause, which may fail because lo is down or a firewall blocks
// it.
const causeTimeout = time.Second

// Happen causes the event once. It returns an error if this machine does not allow it.
func (c Cause) Happen() error {
	if c.IsAwaited() {
		return fmt.Errorf("%w that %v", ErrNotCaused, c)
	}
	switch c {
	case Packets:
		return errors.Join(exchangeSegments(), exchangeDatagrams())
	case Accepts:
		return errors.Join(acceptUnix(), acceptNothing())
	case Uring:
		return completeRequest()
	case Thread:
		return endThread()
	case Cgroup:
		return makeCgroup()
	case Reset:
		return resetConnection()
	case Receipts:
		return errors.Join(receiveOwnByte(), receiveUnixDatagram())
	}
	return fmt.Errorf("unknown cause %d", c)
}

var loopback = net.IPv4(127, 0, 0, 1)

// connectOverLoopback makes a TCP connection that nobody accepts. The caller closes both ends.
func connectOverLoopback() (*net.TCPListener, *net.TCPConn, error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: loopback})
	if err != nil {
		return nil, nil, fmt.Errorf("listen on lo: %w", err)
	}
	client, err := net.DialTimeout("tcp4", listener.Addr().String(), causeTimeout)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("connect over lo, which must be up and open: %w", err), listener.Close())
	}
	return listener, client.(*net.TCPConn), nil
}

// exchangeSegments makes a TCP connection that nobody accepts, tries to receive on it, though
// nothing was sent, and closes it.
func exchangeSegments() error {
	listener, client, err := connectOverLoopback()
	if err != nil {
		return err
	}
	defer listener.Close()
	defer client.Close()
	if err := client.SetDeadline(time.Now().Add(causeTimeout)); err != nil {
		return err
	}
	if _, err := client.Write([]byte("?")); err != nil {
		return fmt.Errorf("send over lo: %w", err)
	}
	raw, err := client.SyscallConn()
	if err != nil {
		return fmt.Errorf("look for an answer over lo: %w", err)
	}
	return raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_DONTWAIT)
		return err != nil // true for EAGAIN
	})
}

// resetConnection makes a TCP connection that nobody accepts before its listener is closed.
func resetConnection() error {
	listener, client, err := connectOverLoopback()
	if err != nil {
		return err
	}
	return errors.Join(listener.Close(), client.Close())
}

// exchangeDatagrams sends datagrams that are received, by each of the ways to send and receive,
// and one to a port without a socket.
func exchangeDatagrams() error {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback})
	if err != nil {
		return fmt.Errorf("open a socket on lo: %w", err)
	}
	defer server.Close()
	client, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		return fmt.Errorf("open a socket on lo: %w", err)
	}
	defer client.Close()
	deadline := time.Now().Add(causeTimeout)
	if err := errors.Join(server.SetReadDeadline(deadline), client.SetReadDeadline(deadline)); err != nil {
		return err
	}
	message := []byte("?")
	for _, step := range []struct {
		what string
		do   func() (int, error)
	}{
		{"send", func() (int, error) { return client.Write(message) }},
		{"receive", func() (int, error) { return server.Read(message) }},
		{"send", func() (int, error) { return server.WriteToUDP(message, client.LocalAddr().(*net.UDPAddr)) }},
		{"receive", func() (n int, err error) { n, _, _, _, err = client.ReadMsgUDP(message, nil); return n, err }},
		{"send", func() (n int, err error) { n, _, err = client.WriteMsgUDP(message, nil, nil); return n, err }},
		{"receive", func() (n int, err error) { n, _, err = server.ReadFromUDP(message); return n, err }},
	} {
		if _, err := step.do(); err != nil {
			return fmt.Errorf("%s over lo, which must be up and open: %w", step.what, err)
		}
	}
	server.Close()
	_, err = client.Write(message)
	return err
}

// acceptUnix accepts a connection of a Unix socket without a name.
func acceptUnix() error {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen on a Unix socket: %w", err)
	}
	defer listener.Close()
	client, err := net.DialTimeout("unix", listener.Addr().String(), causeTimeout)
	if err != nil {
		return fmt.Errorf("connect to a Unix socket: %w", err)
	}
	defer client.Close()
	if err := listener.SetDeadline(time.Now().Add(causeTimeout)); err != nil {
		return err
	}
	server, err := listener.Accept()
	if err != nil {
		return fmt.Errorf("accept on a Unix socket: %w", err)
	}
	return server.Close()
}

// acceptNothing tries to accept from the empty queue of a TCP listener.
func acceptNothing() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte(loopback.To4())}); err != nil {
		return fmt.Errorf("bind to lo: %w", err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		return fmt.Errorf("listen on lo: %w", err)
	}
	if _, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("accept on an empty queue: %w", err)
	}
	return nil
}

// makeCgroup makes a cgroup without a process below the root, and removes it.
func makeCgroup() error {
	root, err := host.CgroupRoot("")
	if err != nil {
		return err
	}
	cgroup, err := os.MkdirTemp(root, "nettap-")
	if err != nil {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	if err := os.Remove(cgroup); err != nil {
		return fmt.Errorf("remove a cgroup: %w", err)
	}
	return nil
}

// endThread begins a thread and ends it. Go keeps idle threads, so goroutines that lock their
// threads are started until one runs on a thread that did not exist before. They all end together,
// and their threads with them.
func endThread() error {
	stock, err := threads()
	if err != nil {
		return err
	}
	end, ids := make(chan struct{}), make(chan int)
	var running sync.WaitGroup
	defer running.Wait()
	defer close(end)
	for range maxThreads {
		running.Go(func() {
			runtime.LockOSThread()
			ids <- unix.Gettid()
			<-end
		})
		if !stock[<-ids] {
			return nil
		}
	}
	return fmt.Errorf("begin a thread: %d goroutines run on threads that were there", maxThreads)
}

// maxThreads is more than any process has idle threads.
const maxThreads = 10_000

// threads returns the ids of this process's threads.
func threads() (map[int]bool, error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("list threads: %w", err)
	}
	ids := map[int]bool{}
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			return nil, fmt.Errorf("list threads: %w", err)
		}
		ids[id] = true
	}
	return ids, nil
}
