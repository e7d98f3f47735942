// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type server struct {
	address, late, silent string

	tracer trace.Tracer
}

func (s *server) flags(set *flag.FlagSet) {
	set.StringVar(&s.address, "address", "127.0.0.1:8080", "where to listen; with port 0, on any free one")
	set.StringVar(&s.late, "late", "", fmt.Sprintf("where to listen as well, and to read each connection's first request %v late", lateness))
	set.StringVar(&s.silent, "silent", "", "where to listen as well, but so that connects get no answer")
}

func (s *server) run(ctx context.Context, t *telemetry) error {
	s.tracer = t.tracer
	handler := otelhttp.NewHandler(http.HandlerFunc(s.answer), "answer", t.http()...)
	h := http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 2)
	if s.silent != "" {
		silent, err := listenSilently(s.silent)
		if err != nil {
			return err
		}
		defer silent.close()
		printListener("does not answer on", silent.Addr())
	}
	if s.late != "" {
		listener, err := net.Listen("tcp", s.late)
		if err != nil {
			return err
		}
		printListener("reads late on", listener.Addr())
		go func() { served <- h.Serve(countedListener{lateListener{listener}, t.bytes}) }()
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	printListener("listens on", listener.Addr())
	go func() { served <- h.Serve(countedListener{listener, t.bytes}) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return h.Shutdown(closing)
}

func printListener(does string, address net.Addr) {
	fmt.Printf("server pid=%d %s %v, port %d\n", os.Getpid(), does, address, address.(*net.TCPAddr).Port)
}

// answer answers a request according to its parameters: ?size=100&delay=20ms, or ?fail=true.
func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	size, errSize := strconv.Atoi(r.FormValue("size"))
	delay, errDelay := time.ParseDuration(r.FormValue("delay"))
	if err := errors.Join(errSize, errDelay); err != nil || size < 0 {
		http.Error(w, fmt.Sprintf("size %d: %v", size, err), http.StatusBadRequest)
		return
	}
	span := trace.SpanFromContext(r.Context())
	s.work(r.Context(), delay)
	if r.FormValue("fail") == "true" {
		size = 0
		if err := reset(w); err != nil {
			span.RecordError(err)
		}
	} else if _, err := w.Write(make([]byte, size)); err != nil {
		span.RecordError(err)
	}
	var parent trace.SpanContext
	if recorded, ok := span.(sdktrace.ReadOnlySpan); ok {
		parent = recorded.Parent()
	}
	id := span.SpanContext()
	fmt.Printf("server pid=%d trace=%v span=%v parent=%v peer=%s bytes=%d\n",
		os.Getpid(), id.TraceID(), id.SpanID(), parent.SpanID(), r.RemoteAddr, size)
}

// work takes some time, in a span of its own.
func (s *server) work(ctx context.Context, delay time.Duration) {
	_, span := s.tracer.Start(ctx, "work")
	defer span.End()
	time.Sleep(delay)
}

func reset(w http.ResponseWriter) error {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	return connection.(countedConn).reset()
}
