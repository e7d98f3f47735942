// SPDX-License-Identifier: Apache-2.0

// Command load does operations on sockets, and prints what each took. Command cost runs it as a
// process of its own, many times for each figure, so it is a small program that starts fast.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
)

// connectionsPart is how many other operations there are for each connection. A round has few
// connections, so that in some rounds none meets an earlier one in TIME_WAIT.
const connectionsPart = 25

// load has both ends of the operations that it measures, in one thread.
type load struct {
	buffer             [64]byte
	datagrams, streams [2]int // to write to, to read from
	full               int    // datagrams written to this socket are dropped
	listener           int
	listens            unix.Sockaddr
}

func main() {
	log.SetFlags(0)
	operations := flag.Int("operations", 50, "a round")
	rounds := flag.Int("rounds", 30, "how many rounds there are, of which one of the least counts")
	least := flag.Bool("least", false, "it is the least of all that counts")
	flag.Parse()
	if err := run(*operations, *rounds, *least); err != nil {
		log.Fatal("load: ", err)
	}
}

// run does each operation in many rounds, and prints what it took in a round that was neither
// disturbed nor especially fast: only a tenth of the rounds took less, or none if the minimum is
// asked for. The unit is nanoseconds, and the form is JSON by operation.
func run(operations, times int, least bool) error {
	part := 10
	if least {
		part = times
	}
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	if err := stayHere(); err != nil {
		return err
	}
	l, err := newLoad()
	if err != nil {
		return err
	}
	rounds := map[string][]float64{}
	for range times {
		for _, operation := range []struct {
			name  string
			times int
			run   func() error
		}{
			{measure.UDP, operations, func() error { return l.exchange(l.datagrams) }},
			{measure.TCP, operations, func() error { return l.exchange(l.streams) }},
			{measure.Connection, max(1, operations/connectionsPart), l.connect},
			{measure.Drop, operations, func() error { return l.write(l.full) }},
			{measure.Getppid, operations, getppid},
		} {
			began := time.Now()
			for range operation.times {
				if err := operation.run(); err != nil {
					return fmt.Errorf("%s: %w", operation.name, err)
				}
			}
			took := float64(time.Since(began)) / float64(operation.times)
			rounds[operation.name] = append(rounds[operation.name], took)
		}
	}
	low := map[string]float64{}
	for name, took := range rounds {
		slices.Sort(took)
		low[name] = took[(len(took)-1)/part]
	}
	return json.NewEncoder(os.Stdout).Encode(low)
}

// stayHere keeps the thread on the last of the processors that it may run on, since the first ones
// have more interrupts.
func stayHere() error {
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return err
	}
	for cpu := range 8 * len(allowed) * 8 {
		if allowed.IsSet(cpu) {
			one.Zero()
			one.Set(cpu)
		}
	}
	return unix.SchedSetaffinity(0, &one)
}

var loopback = unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}

func newLoad() (*load, error) {
	l := &load{}
	var err error
	if l.datagrams, err = datagramPair(0); err != nil {
		return nil, err
	}
	dropping, err := datagramPair(1)
	if err != nil {
		return nil, err
	}
	l.full = dropping[0]
	for range 1000 { // the smallest possible buffer holds fewer
		if err := l.write(l.full); err != nil {
			return nil, err
		}
	}
	if l.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		return nil, err
	}
	if err := unix.Bind(l.listener, &loopback); err != nil {
		return nil, err
	}
	if err := unix.Listen(l.listener, 5); err != nil {
		return nil, err
	}
	if l.listens, err = unix.Getsockname(l.listener); err != nil {
		return nil, err
	}
	if l.streams, err = l.connection(); err != nil {
		return nil, err
	}
	return l, unix.SetsockoptInt(l.streams[0], unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// datagramPair returns two connected sockets. Unless bytes is 0, the buffer of the second one is
// as small as possible.
func datagramPair(bytes int) (pair [2]int, err error) {
	for i := range pair {
		if pair[i], err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != nil {
			return pair, err
		}
	}
	if bytes != 0 {
		if err := unix.SetsockoptInt(pair[1], unix.SOL_SOCKET, unix.SO_RCVBUF, bytes); err != nil {
			return pair, err
		}
	}
	if err := unix.Bind(pair[1], &loopback); err != nil {
		return pair, err
	}
	to, err := unix.Getsockname(pair[1])
	if err != nil {
		return pair, err
	}
	return pair, unix.Connect(pair[0], to)
}

// connection returns both ends of a connection.
func (l *load) connection() (pair [2]int, err error) {
	if pair[0], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		return pair, err
	}
	if err := unix.Connect(pair[0], l.listens); err != nil {
		return pair, err
	}
	pair[1], err = l.accept()
	return pair, err
}

// accept takes the next connection and its peer's address, as a server would. [unix.Accept] does
// more: it asks the listener for its protocol.
func (l *load) accept() (int, error) {
	var peer unix.RawSockaddrInet4
	length := uint32(unsafe.Sizeof(peer))
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l.listener), uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&length)), 0, 0, 0)
	return int(fd), failure(errno)
}

func (l *load) connect() error {
	pair, err := l.connection()
	if err != nil {
		return err
	}
	if err := unix.Close(pair[0]); err != nil {
		return err
	}
	return unix.Close(pair[1])
}

// The calls below are raw ones, so that Go's scheduler has no part in what is measured.

func (l *load) exchange(pair [2]int) error {
	if err := l.write(pair[0]); err != nil {
		return err
	}
	return l.transfer(unix.SYS_READ, pair[1])
}

func (l *load) write(fd int) error { return l.transfer(unix.SYS_WRITE, fd) }

func (l *load) transfer(call uintptr, fd int) error {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&l.buffer)), unsafe.Sizeof(l.buffer))
	if errno == 0 && n != unsafe.Sizeof(l.buffer) {
		return fmt.Errorf("%d of %d bytes moved", n, unsafe.Sizeof(l.buffer))
	}
	return failure(errno)
}

func getppid() error {
	_, _, errno := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	return failure(errno)
}

func failure(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
