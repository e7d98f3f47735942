// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// Reset is a series of nettap.tcp.reset. Its process is the test's own or none.
type Reset struct {
	PID               int // 0: it belongs to no process
	Direction, Reason string
}

// Resets returns every data point of nettap.tcp.reset that has a value.
func Resets(metrics pmetric.Metrics) map[Reset]int {
	all := map[Reset]int{}
	for _, resource := range metrics.ResourceMetrics().All() {
		var pid int64
		if value, ok := resource.Resource().Attributes().Get("process.pid"); ok {
			pid = value.Int()
		}
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() != "nettap.tcp.reset" {
					continue
				}
				for _, point := range metric.Sum().DataPoints().All() {
					text := textsOf(point)
					if !point.Flags().NoRecordedValue() {
						all[Reset{int(pid), text("network.io.direction"), text("nettap.tcp.reset.reason")}] += int(point.IntValue())
					}
				}
			}
		}
	}
	return all
}

// CloseUnread makes a connection from the sender to the receiver, closes its end there while there
// is unread data, and waits until the other end has noticed.
func (l *Lab) CloseUnread(t *testing.T) {
	t.Helper()
	l.connection(t, func(client, server *net.TCPConn) {
		if _, err := client.Write([]byte("unread")); err != nil {
			t.Fatal(err)
		}
		if !within(time.Minute, func() bool { return unread(t, server) > 0 }) {
			t.Fatal("nothing came to read")
		}
		server.Close()
		requireReset(t, client)
	})
}

// CloseAtOnce makes a connection, and closes its end at the sender without waiting.
func (l *Lab) CloseAtOnce(t *testing.T) {
	t.Helper()
	l.connection(t, func(client, server *net.TCPConn) {
		if err := client.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		client.Close()
		requireReset(t, server)
	})
}

// KnockAtClosedPort lets the sender connect to a port of the receiver on which no one listens.
func (l *Lab) KnockAtClosedPort(t *testing.T, n int) {
	t.Helper()
	l.inSender(t, func() {
		for range n {
			_, err := net.DialTimeout("tcp", netip.AddrPortFrom(l.Receiver.IPv4, closedPort).String(), time.Minute)
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Fatalf("connect to a closed port: %v", err)
			}
		}
	})
}

func (l *Lab) connection(t *testing.T, use func(client, server *net.TCPConn)) {
	t.Helper()
	listener := l.listenAnywhere(t)
	defer listener.Close()
	client, server := l.join(t, listener)
	defer client.Close()
	defer server.Close()
	use(client, server)
}

// listenAnywhere listens on a port of the receiver.
func (l *Lab) listenAnywhere(t *testing.T) (listener *net.TCPListener) {
	t.Helper()
	l.inReceiver(t, func() {
		var err error
		if listener, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: l.Receiver.IPv4.AsSlice()}); err != nil {
			t.Fatal(err)
		}
	})
	return listener
}

// join makes a connection from the sender to a listener.
func (l *Lab) join(t *testing.T, listener *net.TCPListener) (client, server *net.TCPConn) {
	t.Helper()
	l.inSender(t, func() { client = kerneltest.Dial(t, listener.Addr()) })
	return client, kerneltest.Accept(t, listener)
}

func requireReset(t *testing.T, end *net.TCPConn) {
	t.Helper()
	if _, err := end.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("read from the other end: %v, want a reset", err)
	}
}

// unread returns how many bytes there are to read.
func unread(t *testing.T, end *net.TCPConn) (n int) {
	t.Helper()
	raw, err := end.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil {
		t.Fatal(err)
	}
	return n
}
