// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

type client struct {
	url       string
	requests  int64
	interval  time.Duration
	timeout   time.Duration
	parallel  int
	keepAlive bool
	size      int
	delay     time.Duration
	fail      int64

	begun  atomic.Int64
	tracer trace.Tracer
	http   http.Client
}

func (c *client) flags(set *flag.FlagSet) {
	set.StringVar(&c.url, "url", "http://127.0.0.1:8080/", "the server; one that is not there makes requests fail")
	set.Int64Var(&c.requests, "requests", 10, "how many requests to send; 0 is no end")
	set.DurationVar(&c.interval, "interval", 0, "how long to wait after each")
	set.DurationVar(&c.timeout, "connect-timeout", 30*time.Second, "how long to wait for a connection")
	set.IntVar(&c.parallel, "parallel", 1, "how many to send at once")
	set.BoolVar(&c.keepAlive, "keep-alive", true, "use connections again")
	set.IntVar(&c.size, "size", 100, "the size of each answer in bytes; from 4096 on the server flushes it within its span")
	set.DurationVar(&c.delay, "delay", 0, "how long the server is to work on each answer")
	set.Int64Var(&c.fail, "fail", 0, "if N, the server is to reset the connection at every Nth request")
}

func (c *client) run(ctx context.Context, t *telemetry) error {
	c.tracer = t.tracer
	transport := &http.Transport{
		DisableKeepAlives:   !c.keepAlive,
		MaxIdleConnsPerHost: c.parallel,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			connection, err := (&net.Dialer{Timeout: c.timeout}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			// net/http may dial for a request that then uses another connection.
			fmt.Printf("client pid=%d dialed local=%v\n", os.Getpid(), connection.LocalAddr())
			return countedConn{connection, t.bytes}, nil
		},
	}
	c.http.Transport = otelhttp.NewTransport(noteClientSpan{transport}, t.http()...)
	var workers sync.WaitGroup
	for range c.parallel {
		workers.Go(func() { c.send(ctx) })
	}
	workers.Wait()
	transport.CloseIdleConnections()
	return nil
}

// send sends requests until enough are sent.
func (c *client) send(ctx context.Context) {
	for {
		number := c.begun.Add(1)
		if c.requests > 0 && number > c.requests {
			return
		}
		c.request(ctx, number)
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.interval):
		}
	}
}

// exchange is what is known of a request.
type exchange struct {
	client trace.SpanContext // of the span that otelhttp has made
	local  string
	status int
	bytes  int64
	err    error
}

// request sends one request, in a span of the application's own.
func (c *client) request(ctx context.Context, number int64) {
	ctx, span := c.tracer.Start(ctx, "request")
	defer span.End()
	e := &exchange{local: "none"}
	e.err = c.get(context.WithValue(ctx, exchangeKey{}, e), number, e)
	if e.err != nil {
		span.SetStatus(codes.Error, e.err.Error())
	}
	fmt.Printf("client pid=%d trace=%v span=%v local=%s status=%d bytes=%d%s\n",
		os.Getpid(), span.SpanContext().TraceID(), e.client.SpanID(), e.local, e.status, e.bytes, failure(e.err))
}

func failure(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf(" error=%q", err)
}

func (c *client) get(ctx context.Context, number int64, e *exchange) error {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { e.local = info.Conn.LocalAddr().String() },
	})
	method, fail := http.MethodGet, c.fail > 0 && number%c.fail == 0
	if fail {
		method = http.MethodPost // net/http never repeats a POST
	}
	query := url.Values{"size": {strconv.Itoa(c.size)}, "delay": {c.delay.String()}, "fail": {strconv.FormatBool(fail)}}
	request, err := http.NewRequestWithContext(ctx, method, c.url+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	e.status = response.StatusCode
	e.bytes, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}

type exchangeKey struct{}

// noteClientSpan is below otelhttp's transport, where the context has its span.
type noteClientSpan struct{ http.RoundTripper }

func (n noteClientSpan) RoundTrip(r *http.Request) (*http.Response, error) {
	if e, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		e.client = trace.SpanContextFromContext(r.Context())
	}
	return n.RoundTripper.RoundTrip(r)
}
