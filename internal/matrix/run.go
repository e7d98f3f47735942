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
	"strings"
	"sync"
	"time"

	"github.com/seed-7756021b/nettap/internal/vm"
)

const (
	// tries is how often the tests of a package are started if the guest dies.
	tries = 2
	// bootTimeout ends a guest that hangs. The tests of one package have a shorter timeout.
	bootTimeout = 45 * time.Minute
	testTimeout = "15m"
	// longTimeout is that of the kernel's own tests, which are started twice.
	longTimeout = "30m"

	// distribution is the built distribution, which the kernel tests of one package run.
	distribution = "build/otelcol-nettap"
	drivers      = "testdata/e2e"
)

// result is the result of the tests on one kernel.
type result struct {
	kernel   vm.Kernel
	name     string // of the kernel, exactly
	packages []tested
	reports  map[string]*report // by package; a package whose guest died is missing
	err      error              // the reason if there was no guest at all
	took     time.Duration
}

// test runs the tests on all kernels, copies what they print, and returns the results.
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
		}
		if k.Distribution && slices.ContainsFunc(results[i].packages, func(p tested) bool { return p.name == drivers }) {
			guests[i].distribution, guests[i].selftests = distribution, m.selftests
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
				return m.boot(ctx, guests[i], packages, cmp.Or(m.Kernels[i].Only, m.run), m.Kernels[i].LeftOut, to)
			})
			results[i].took = time.Since(began)
		})
	}
	running.Wait()
	return results, ctx.Err()
}

// order returns the indexes of the kernels in the order in which to boot them: those that take
// longest are first, so that no long one is left when all others have ended.
func (m *matrix) order() []int {
	order := make([]int, len(m.Kernels))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m.Kernels[b].Minutes, m.Kernels[a].Minutes) })
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

// runAll runs the tests of packages in guests that boot starts, until each package has a report.
// If a guest dies, another one is started for the remaining packages. The package whose tests were
// running is blamed, and left out the second time.
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

// boot runs the tests of packages that match the regular expression run in one guest, except those
// that are left out, which whoever chooses tests runs anyway. It copies what the guest prints, and
// returns it interpreted.
func (m *matrix) boot(ctx context.Context, g guest, packages []tested, run string, leftOut []string, to io.Writer) *console {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	seen := &console{reports: map[string]*report{}}
	g.packages = packages
	timeout := testTimeout
	if g.selftests {
		timeout = longTimeout
	}
	g.arguments = []string{"-test.v", "-test.short", "-test.run=" + run, "-test.timeout=" + timeout}
	if run == everyTest && len(leftOut) > 0 {
		g.arguments = append(g.arguments, "-test.skip=^("+strings.Join(leftOut, "|")+")$")
	}
	err := g.Boot(ctx, m.build, vm.Testing, job, g.fill, func(line string) {
		fmt.Fprintf(to, "%s | %s\n", g.Release, line)
		seen.read(line)
	})
	if err != nil || !seen.done {
		log.Printf("matrix: %s: the guest died: %v", g.Release, err)
	}
	return seen
}
