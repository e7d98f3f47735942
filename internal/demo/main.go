// SPDX-License-Identifier: Apache-2.0

// Command demo is a pair of applications that trace themselves, so that they can be observed from
// the kernel at the same time:
//
//	demo server [flags]
//	demo client [flags]
//
// They communicate by HTTP. Both send their own spans and byte counters over OTLP to the address
// in the usual environment variables, such as OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317,
// and publish the active span as pprof labels (see package pproflabels). The client's flags
// determine how a request is answered. Each application prints a line for each request, and the
// client also one for each connection:
//
//	server pid=7 trace=0af7651916cd43dd8448eb211c80319c span=b7ad6b7169203331 parent=00f067aa0ba902b7 peer=127.0.0.1:51514 bytes=100
//	client pid=8 dialed local=127.0.0.1:51514
//	client pid=8 trace=0af7651916cd43dd8448eb211c80319c span=00f067aa0ba902b7 local=127.0.0.1:51514 status=200 bytes=100
//
// The client ends after its requests, and the server when it is terminated. All telemetry is sent
// before.
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

// application is one of the two.
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
