// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

const readerVariable = "NETTAP_TEST_READER"

// Main makes a test binary that [Lab.StartReader] has started the process that it should be.
// TestMain calls it first.
func Main() {
	switch os.Getenv(readerVariable) {
	case "":
		return
	case "inherits":
		if _, _, err := unix.Recvfrom(3, make([]byte, 2048), 0); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	default:
		if _, err := openFullReader(os.Getenv(readerVariable)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // until it is told to end
	os.Exit(0)
}

// openFullReader opens a UDP socket with room for only one datagram.
func openFullReader(address string) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != nil {
		return 0, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		return 0, err
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
}

// Reader is a process with a UDP socket, from which it never reads.
type Reader struct {
	PID     int
	Address netip.AddrPort
	stop    func()
}

// Stop ends the process.
func (r *Reader) Stop() { r.stop() }

// StartReader starts a process with a socket of the receiver, which it has made itself and never
// used.
func (l *Lab) StartReader(t *testing.T) *Reader {
	t.Helper()
	to := netip.AddrPortFrom(l.Receiver.IPv4, openPort)
	r := l.startReader(t, to.String())
	r.Address = to
	return r
}

// StartHeir starts a process with a socket of the receiver that this process has made, and from
// which the new process has read once.
func (l *Lab) StartHeir(t *testing.T) *Reader {
	t.Helper()
	to := netip.AddrPortFrom(l.Receiver.IPv4, openPort+1)
	var fd int
	l.inReceiver(t, func() {
		var err error
		if fd, err = openFullReader(to.String()); err != nil {
			t.Fatal(err)
		}
	})
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	l.sendDatagrams(t, 1, to, 1)
	r := l.startReader(t, "inherits", file)
	r.Address = to
	return r
}

func (l *Lab) startReader(t *testing.T, what string, files ...*os.File) *Reader {
	t.Helper()
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), readerVariable+"="+what)
	command.ExtraFiles = files
	output := kerneltest.OutputOf(t, command)
	var program *kerneltest.Program
	l.inReceiver(t, func() { program = kerneltest.StartProgram(t, command) })
	if line := output.Line(); line != "ready" {
		t.Fatalf("the reader says %q", line)
	}
	return &Reader{PID: command.Process.Pid, stop: program.End}
}

// Overrun sends a reader n datagrams, and returns how many of them were dropped according to
// /proc/net/udp.
func (l *Lab) Overrun(t *testing.T, r *Reader, n int) (dropped int) {
	t.Helper()
	before := l.udpDrops(t, r.Address.Port())
	l.sendDatagrams(t, n, r.Address, 900)
	if !within(time.Minute, func() bool {
		dropped = l.udpDrops(t, r.Address.Port()) - before
		return dropped >= n-2 // there may be room for one or two
	}) {
		t.Errorf("of %d datagrams %d were dropped", n, dropped)
	}
	return dropped
}

// udpDrops returns how many packets the socket of a port has dropped according to /proc/net/udp.
func (l *Lab) udpDrops(t *testing.T, port uint16) (drops int) {
	t.Helper()
	l.inReceiver(t, func() {
		table, err := os.ReadFile("/proc/thread-self/net/udp")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(table), "\n") {
			fields := strings.Fields(line)
			if len(fields) > 12 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
				n, err := strconv.Atoi(fields[12])
				if err != nil {
					t.Fatal(err)
				}
				drops += n
			}
		}
	})
	return drops
}

// CallNobody sends n datagrams from the sender to an address that no one has. They wait for its
// neighbour entry, and are dropped.
func (l *Lab) CallNobody(t *testing.T, n int) {
	t.Helper()
	l.inSender(t, func() {
		for name, value := range map[string]string{"mcast_solicit": "1", "retrans_time_ms": "100"} {
			setSysctl(t, filepath.Join("net/ipv4/neigh", l.Sender.Device, name), value)
		}
	})
	nobody := neighbour(l.Receiver.IPv4)
	l.sendDatagrams(t, n, netip.AddrPortFrom(nobody, openPort), 50)
	if !within(time.Minute, func() (failed bool) {
		l.inSender(t, func() { failed = hasFailed(t, l.Sender.Index, nobody) })
		return failed
	}) {
		t.Error("the address has a neighbour")
	}
}

func hasFailed(t *testing.T, index int, address netip.Addr) bool {
	t.Helper()
	entries, err := netlink.NeighList(index, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IP.Equal(address.AsSlice()) {
			return entry.State&netlink.NUD_FAILED != 0
		}
	}
	return false
}

// Send sends n small datagrams.
func (l *Lab) Send(t *testing.T, to netip.AddrPort, n int) {
	t.Helper()
	l.sendDatagrams(t, n, to, 10)
}

// CloseListener listens on a TCP port of the receiver for a short time.
func (l *Lab) CloseListener(t *testing.T) (was netip.AddrPort) {
	t.Helper()
	l.inReceiver(t, func() {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(l.Receiver.IPv4, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		was = listener.Addr().(*net.TCPAddr).AddrPort()
		listener.Close()
	})
	return was
}

// Knock tries n times to connect to a port on which no one listens.
func (l *Lab) Knock(t *testing.T, at netip.AddrPort, n int) {
	t.Helper()
	l.inSender(t, func() {
		for range n {
			if connection, err := net.DialTimeout("tcp", at.String(), time.Minute); err == nil {
				connection.Close()
				t.Fatal("a closed port accepts connections")
			}
		}
	})
}
