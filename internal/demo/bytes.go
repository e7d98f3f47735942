// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// byteCounter counts what the application reads from its connections and writes to them, as
// demo.io. The kernel's process.network.io is larger: it includes headers and the connection to
// the Collector.
type byteCounter struct {
	io                metric.Int64Counter
	transmit, receive metric.MeasurementOption
}

func newByteCounter(provider metric.MeterProvider) (*byteCounter, error) {
	io, err := provider.Meter("demo").Int64Counter("demo.io", metric.WithUnit("By"),
		metric.WithDescription("Bytes that the application read from its connections and wrote to them."))
	direction := func(name string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("network.io.direction", name)))
	}
	return &byteCounter{io, direction("transmit"), direction("receive")}, err
}

// countedConn is a connection whose bytes are counted.
type countedConn struct {
	net.Conn
	bytes *byteCounter
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.io.Add(context.Background(), int64(n), c.bytes.receive)
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.io.Add(context.Background(), int64(n), c.bytes.transmit)
	return n, err
}

// reset ends the connection so that the other side gets an error.
func (c countedConn) reset() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return c.Close()
}

// countedListener counts the bytes of the connections that it accepts.
type countedListener struct {
	net.Listener
	bytes *byteCounter
}

func (l countedListener) Accept() (net.Conn, error) {
	connection, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{connection, l.bytes}, nil
}
