// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// lateness is how long after a connection is accepted its first request is read, if it is read late.
const lateness = 400 * time.Millisecond

// lateListener accepts connections whose first requests are read late.
type lateListener struct{ net.Listener }

func (l lateListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lateConn{Conn: connection}, nil
}

type lateConn struct {
	net.Conn
	once sync.Once
}

func (c *lateConn) Read(b []byte) (int, error) {
	c.once.Do(func() { time.Sleep(lateness) })
	return c.Conn.Read(b)
}

// silentListener has a full queue of connections that nobody accepts, so that connects get no answer.
type silentListener struct {
	net.Listener
	first net.Conn
}

// listenSilently returns a listener whose queue has room for one connection, which is in it.
func listenSilently(address string) (*silentListener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	err = limitQueue(listener.(*net.TCPListener))
	if err == nil {
		var first net.Conn
		if first, err = net.Dial("tcp", listener.Addr().String()); err == nil {
			return &silentListener{listener, first}, nil
		}
	}
	return nil, errors.Join(err, listener.Close())
}

// limitQueue leaves room for one connection in the queue of a listener.
func limitQueue(listener *net.TCPListener) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var listenErr error
	err = raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), 0) })
	return errors.Join(err, listenErr)
}

func (l *silentListener) close() {
	l.first.Close()
	l.Close()
}
