// SPDX-License-Identifier: Apache-2.0

// Command matrix runs kernel tests, those named TestKernel..., on the kernels that
// testdata/kernels.txt lists:
//
//	go run ./internal/matrix [flags] [package ...]
//
// It fetches the kernels from Debian's archive, compiles the tests, and boots each kernel under
// qemu with only a busybox and the tests. If a guest dies the tests have not failed: it gets a
// second chance, and tests that are then still missing are reported as lost. A run of all tests on
// all kernels also checks that the table of kernels in README.md shows its result.
//
// It needs no root, but apt, dpkg, kmod, xz and zstd, and qemu.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/seed-7756021b/nettap/internal/vm"
)

const (
	everyTest = "^TestKernel"
	tableFile = "README.md"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m := matrix{build: filepath.Join("build", "matrix")}
	cache := flag.String("cache", vm.DefaultStore(), "directory to keep what was fetched in ($NETTAP_CACHE)")
	flag.StringVar(&m.run, "run", everyTest, "only the tests that this regular expression matches")
	flag.IntVar(&m.parallel, "parallel", runtime.NumCPU()+1, "how many guests to run at once, each on one core; now and then one waits")
	plan := flag.String("plan", filepath.Join("testdata", "kernels.txt"), "the kernels and what to expect of them")
	only := flag.String("kernel", "", "only the kernels whose line in the plan this regular expression matches")
	write := flag.Bool("write", false, "write the table of kernels into "+tableFile)
	flag.BoolVar(&m.selftests, "selftests", false, "add the kernel's own tests, which go run ./internal/selftests "+selftests+" has built, to guests with the distribution")
	flag.Parse()
	whole := *only == "" && m.run == everyTest && flag.NArg() == 0
	m.patterns = flag.Args()
	if m.everyPackage = len(m.patterns) == 0; m.everyPackage {
		m.patterns = []string{"./internal/...", "./receiver/..."}
	}
	m.store = vm.NewStore(*cache)
	var err error
	if m.Plan, err = vm.ReadPlan(*plan, *only); err != nil {
		log.Fatal("matrix: ", err)
	}
	began := time.Now()
	results, err := m.test(ctx, os.Stdout)
	if err != nil {
		log.Fatal("matrix: ", err)
	}
	fine := summarize(os.Stdout, results)
	fmt.Printf("in %v\n", time.Since(began).Round(time.Second))
	if !fine {
		os.Exit(1)
	}
	if !whole {
		return
	}
	if err := tableOfKernels.Check(tableFile, table(m.Features, results), *write); err != nil {
		log.Fatal("matrix: ", err)
	}
}

// matrix is one run of tests on kernels.
type matrix struct {
	vm.Plan
	store        *vm.Store
	build        string // a directory for what is compiled
	run          string // a regular expression that selects tests
	parallel     int
	selftests    bool     // guests with the distribution have the kernel's own tests, too
	patterns     []string // of Go packages
	everyPackage bool
}
