// SPDX-License-Identifier: Apache-2.0

// Command bench measures what the instruments cost:
//
//	go run ./internal/bench [flags]
//
// In guests whose clocks count instructions it measures, by kernel and by each way to attach an
// instrument, how many more instructions an operation takes. On this machine, as root, it measures
// how many nanoseconds. Each figure comes with that of empty programs at the same hooks. The
// result can be recorded in the repository, and compared with what is recorded.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/seed-7756021b/nettap/internal/section"
	"github.com/seed-7756021b/nettap/internal/vm"
)

const (
	planFile   = "testdata/kernels.txt"
	recordFile = "testdata/cost.json"
	tableFile  = "README.md"

	everything = ".*" // what -only matches by default

	scaleFile        = "testdata/scale.json"
	pictureDirectory = "docs"

	sizingFile     = "testdata/sizing.json"
	sizingDocument = "docs/sizing.md"
)

// tableOfCosts is where the table is in a document.
var tableOfCosts = section.Section{Command: "make bench", Again: "make bench-record"}

// tablesOfSizing is where the tables are in their document.
var tablesOfSizing = section.Section{Command: "make sizing", Again: "go run ./internal/bench -table"}

// bench is one run of measures.
type bench struct {
	store             *vm.Store
	plan              vm.Plan
	build             string // the directory for what is built
	only              string // a regular expression that selects cases
	everyRung, floors bool
	parallel          int // number of guests at a time, each of which takes one core and does not wait
	verbose           bool
	startOnly         bool // nothing is measured but how long the start takes
	hereTime          time.Duration

	guests, here, check, record, table, scale, sizing bool
}

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := bench{build: filepath.Join("build", "bench")}
	store := flag.String("cache", vm.DefaultStore(), "directory to keep kernels in ($NETTAP_CACHE)")
	kernels := flag.String("kernel", `amd64 linux-image-(6\.1|6\.12|6\.18|7)\.\*-cloud-amd64$`,
		"the kernels whose line in "+planFile+" this regular expression matches")
	flag.StringVar(&b.only, "only", everything, "only the cases that this regular expression matches wholly: traffic, drops, accepts, calls, all; accepts-everything, connections, everything, calls-without-waits and traffic-beyond are measured if they are named; with -scale the points, such as processes-8000")
	flag.BoolVar(&b.everyRung, "every-rung", true, "in guests, each way to attach an instrument, not only what is chosen")
	flag.BoolVar(&b.floors, "floors", true, "empty programs at the same hooks, too")
	flag.IntVar(&b.parallel, "parallel", runtime.NumCPU(), "how many guests to run at once")
	flag.BoolVar(&b.startOnly, "start", false, "measure nothing but what the start takes in guests, with all functions: a second is 1,000 million instructions")
	flag.BoolVar(&b.verbose, "v", false, "print what the guests print")
	flag.BoolVar(&b.guests, "guests", true, "count instructions in guests")
	flag.BoolVar(&b.here, "here", false, "measure nanoseconds on this machine (as root)")
	flag.DurationVar(&b.hereTime, "here-time", 3*time.Minute, "how long to begin new turns of that, after the first")
	flag.BoolVar(&b.scale, "scale", false, "measure nothing but what a Collector takes by how much there is to watch (as root)")
	flag.BoolVar(&b.sizing, "sizing", false, "measure nothing but what an agent sends to a gateway, and with -record write it into "+sizingFile+" and "+sizingDocument+" (as root)")
	flag.BoolVar(&b.check, "check", false, "fail if an instrument takes more instructions than "+recordFile+" says")
	flag.BoolVar(&b.record, "record", false, "write what was found into "+recordFile+" and "+tableFile+"; with -only, what is recorded of the other cases stays")
	flag.BoolVar(&b.table, "table", false, "measure nothing, and write what "+recordFile+" says into "+tableFile+", what "+sizingFile+" says into "+sizingDocument+", and draw what "+scaleFile+" says")
	flag.Parse()
	var err error
	if b.plan, err = vm.ReadPlan(planFile, *kernels); err != nil {
		log.Fatal("bench: ", err)
	}
	b.store = vm.NewStore(*store)
	began := time.Now()
	err = b.run(ctx)
	log.Printf("in %v", time.Since(began).Round(time.Second))
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

func (b *bench) run(ctx context.Context) error {
	if err := os.MkdirAll(b.build, 0o755); err != nil {
		return err
	}
	if b.scale {
		return b.runScale(ctx)
	}
	if b.sizing {
		return b.runSizing(ctx)
	}
	if b.startOnly {
		_, err := b.count(ctx, ".")
		return err
	}
	lastFile := filepath.Join(b.build, "last.json")
	last, err := readRecord(lastFile)
	if err != nil {
		return err
	}
	kept, err := readRecord(recordFile)
	if err != nil {
		return err
	}
	if b.table {
		s, err := readScale(scaleFile)
		if err != nil {
			return err
		}
		sent, err := readSizing(sizingFile)
		if err != nil {
			return err
		}
		return errors.Join(tableOfCosts.Check(tableFile, kept.markdown(), true), tablesOfSizing.Check(sizingDocument, sent.markdown(), true), s.draw(pictureDirectory))
	}
	found, err := b.measure(ctx)
	if err != nil {
		return err
	}
	fmt.Print(found.text(last))
	if err := last.with(found).write(lastFile); err != nil {
		return err
	}
	if b.check {
		return b.compare(ctx, found.Kernels, kept)
	}
	if !b.record {
		return nil
	}
	if b.only != everything {
		found = found.completedBy(kept)
	}
	kept = kept.with(found)
	return errors.Join(kept.write(recordFile), tableOfCosts.Check(tableFile, kept.markdown(), true))
}

// measure measures what the flags select, with the sources that are checked out.
func (b *bench) measure(ctx context.Context) (record, error) {
	var found record
	var commit string
	var err error
	if b.record {
		if commit, err = cleanCommit(ctx); err != nil {
			return record{}, err
		}
	}
	if b.guests {
		if found.Kernels, err = b.count(ctx, "."); err != nil {
			return record{}, err
		}
	}
	for i := range found.Kernels {
		found.Kernels[i].Commit = commit
	}
	if b.here {
		nanos, err := b.nanos(ctx)
		if err != nil {
			return record{}, fmt.Errorf("on this machine: %w", err)
		}
		nanos.Commit = commit
		found.Nanos = &nanos
	}
	return found, nil
}
