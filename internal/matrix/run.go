// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/seed-7756021b/nettap/internal/vm"
)

const (
	// tries is how often a package is tested whose guest dies.
	tries = 2
	// bootTimeout ends a guest that hangs. The tests of one package end before.
	bootTimeout = 45 * time.Minute
	testTimeout = "20m"

	// What is built is run by the kernel tests of a package that drives it.
	distribution = "build/otelcol-nettap"
	drivers      = "testdata/e2e"
)

// result is what became of the tests on one kernel.
type result struct {
	kernel   vm.Kernel
	name     string // of the kernel, exactly
	packages []tested
	reports  map[string]*report // by package; those whose guest died are missing
	err      error              // why there was no guest at all
	took     time.Duration
}

// test runs the tests on all kernels, passes on what they print, and returns what
// became of them.
func (m *matrix) test(ctx context.Context, to io.Writer) ([]result, error) {
	packages, driving := map[string][]tested{}, map[string][]tested{}
	for _, arch := range m.archs() {
		built, err := buildTests(ctx, arch, filepath.Join(m.build, arch), m.patterns)
		if err != nil {
			return nil, fmt.Errorf("build the tests for %s: %w", arch, err)
		}
		packages[arch] = built
	}
	guests := make([]guest, len(m.Kernels))
	results := make([]result, len(m.Kernels))
	for i, k := range m.Kernels {
		results[i] = result{kernel: k, name: k.String(), packages: packages[k.Arch]}
		guests[i].Guest, results[i].err = m.store.Guest(ctx, m.Plan, k)
		if k.Distribution && m.everyPackage {
			if driving[k.Arch] == nil {
				built, err := buildTests(ctx, k.Arch, filepath.Join(m.build, k.Arch), []string{"./" + drivers})
				if err != nil {
					return nil, fmt.Errorf("build the tests of the distribution: %w", err)
				}
				driving[k.Arch] = built
			}
			results[i].packages = slices.Concat(results[i].packages, driving[k.Arch])
			guests[i].distribution = distribution
		}
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, m.parallel)
	for _, i := range m.order() {
		if results[i].err != nil {
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			results[i].name = guests[i].String()
			results[i].reports = runAll(ctx, results[i].packages, func(ctx context.Context, packages []tested) *console {
				return m.boot(ctx, guests[i], packages, cmp.Or(m.Kernels[i].Only, m.run), to)
			})
			results[i].took = time.Since(began)
		})
	}
	running.Wait()
	return results, ctx.Err()
}

// order returns the indexes of the kernels as they are booted, those first that take
// longest: they also run the distribution, or are last in the plan.
func (m *matrix) order() []int {
	var order []int
	for _, distribution := range []bool{true, false} {
		for i, kernel := range slices.Backward(m.Kernels) {
			if kernel.Distribution == distribution {
				order = append(order, i)
			}
		}
	}
	return order
}

// archs returns the architectures of the kernels, each once.
func (m *matrix) archs() []string {
	var archs []string
	for _, kernel := range m.Kernels {
		archs = append(archs, kernel.Arch)
	}
	slices.Sort(archs)
	return slices.Compact(archs)
}

// runAll runs the tests of packages in guests that boot starts, until each
// package has a report. A guest that dies is started again for the packages that
// are left; the one whose tests ran is blamed, and dropped the second time.
func runAll(ctx context.Context, packages []tested, boot func(ctx context.Context, packages []tested) *console) map[string]*report {
	reports := map[string]*report{}
	blamed := map[string]int{}
	for {
		left := slices.DeleteFunc(slices.Clone(packages), func(p tested) bool {
			return reports[p.name] != nil || blamed[p.name] >= tries
		})
		if len(left) == 0 || ctx.Err() != nil {
			return reports
		}
		seen := boot(ctx, left)
		for name, report := range seen.reports {
			reports[name] = report
		}
		for _, p := range left {
			if seen.current == "" || seen.current == p.name {
				blamed[p.name]++
			}
		}
	}
}

// boot runs those tests of packages in one guest that the regular expression run matches, prints what it prints, and returns
// what that means.
func (m *matrix) boot(ctx context.Context, g guest, packages []tested, run string, to io.Writer) *console {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	seen := &console{reports: map[string]*report{}}
	g.packages = packages
	g.arguments = []string{"-test.v", "-test.short", "-test.run=" + run, "-test.timeout=" + testTimeout}
	err := g.Boot(ctx, m.build, vm.Testing, job, g.fill, func(line string) {
		fmt.Fprintf(to, "%s | %s\n", g.Release, line)
		seen.read(line)
	})
	if err != nil || !seen.done {
		log.Printf("matrix: %s: the guest died: %v", g.Release, err)
	}
	return seen
}
