// SPDX-License-Identifier: Apache-2.0

// Command demo is a pair of applications that trace themselves, to look at them
// from the kernel at the same time:
//
//	demo server [flags]
//	demo client [flags]
//
// They speak HTTP. Both send their own spans and byte counters over OTLP to where
// the usual variables say, as OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317,
// and publish the active span as pprof labels (see package pproflabels). How a
// request is answered is up to the client's flags. Each prints a line a request, and the
// client one a connection:
//
//	server pid=7 trace=0af7651916cd43dd8448eb211c80319c span=b7ad6b7169203331 parent=00f067aa0ba902b7 peer=127.0.0.1:51514 bytes=100
//	client pid=8 dialed local=127.0.0.1:51514
//	client pid=8 trace=0af7651916cd43dd8448eb211c80319c span=00f067aa0ba902b7 local=127.0.0.1:51514 status=200 bytes=100
//
// The client ends after its requests, the server when it is told to; what they
// have to say is sent before.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
)

// application is one of the pair.
type application interface {
	flags(*flag.FlagSet)
	run(context.Context, *telemetry) error
}

func main() {
	log.SetFlags(0)
	applications := map[string]application{"server": &server{}, "client": &client{}}
	if len(os.Args) < 2 || applications[os.Args[1]] == nil {
		log.Fatal("usage: demo server|client [flags]; -help lists the flags")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1], applications[os.Args[1]], os.Args[2:]); err != nil {
		log.Fatalf("demo %s: %v", os.Args[1], err)
	}
}

func run(ctx context.Context, name string, app application, arguments []string) error {
	set := flag.NewFlagSet("demo "+name, flag.ExitOnError)
	labels := set.Bool("labels", true, "publish the active span as pprof labels")
	app.flags(set)
	if err := set.Parse(arguments); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("%q is not a flag", set.Arg(0))
	}
	t, err := newTelemetry(ctx, "demo-"+name, *labels)
	if err != nil {
		return err
	}
	return errors.Join(app.run(ctx, t), t.shutdown())
}
