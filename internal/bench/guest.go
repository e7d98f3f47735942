// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
	"github.com/seed-7756021b/nettap/internal/vm"
)

// guestTimeout ends a guest that hangs. On a busy machine a guest may take half of it.
const guestTimeout = time.Hour

//go:embed job.sh
var job []byte

// measured is what was measured on one kernel.
type measured struct {
	Title    string            `json:"title"`            // as the table of kernels names it
	Kernel   string            `json:"kernel"`           // as uname -r prints it
	Commit   string            `json:"commit,omitempty"` // the commit that was measured
	Measures []measure.Measure `json:"measures"`
}

// programs are the executables that measure: one that starts the instruments, and its load.
type programs struct{ cost, load string }

// buildPrograms builds the programs from the sources in a directory.
func (b *bench) buildPrograms(ctx context.Context, source string) (programs, error) {
	directory, err := filepath.Abs(filepath.Join(b.build, "programs"))
	if err != nil {
		return programs{}, err
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return programs{}, err
	}
	command := vm.GoCommand(ctx, "amd64", "build", "-ldflags=-w", "-o", directory, "./internal/bench/cost", "./internal/bench/load")
	command.Dir = source
	_, err = vm.Output(command)
	return programs{cost: filepath.Join(directory, "cost"), load: filepath.Join(directory, "load")}, err
}

// count returns how many instructions operations take on each kernel of the plan, with the
// instruments of the sources in a directory.
func (b *bench) count(ctx context.Context, source string) ([]measured, error) {
	measuring, err := b.buildPrograms(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("build what measures: %w", err)
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, b.parallel)
	parts := partsOf(b.only)
	found := make([][]measured, len(b.plan.Kernels))
	errs := make([]error, len(b.plan.Kernels)*len(parts))
	// The plan has the oldest first. The newest has the most ways to attach and takes longest.
	for i, k := range slices.Backward(b.plan.Kernels) {
		guest, err := b.store.Guest(ctx, vm.Plan{Busybox: b.plan.Busybox}, k)
		if err != nil {
			return nil, err
		}
		found[i] = make([]measured, len(parts))
		for part, only := range parts {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				found[i][part], errs[i*len(parts)+part] = b.measureGuest(ctx, guest, measuring, only)
				found[i][part].Title = k.Title()
			})
		}
	}
	running.Wait()
	var all []measured
	for _, parts := range found {
		all = append(all, joined(parts))
	}
	return all, errors.Join(errs...)
}

// partsOf returns the cases that each guest of a kernel measures. Most of the time is for starting calls, and it is
// started for all instruments together too, so these are in a guest of their own, which can run at the same time.
func partsOf(only string) []string {
	if only != everything {
		return []string{only}
	}
	return []string{"traffic|drops|accepts|calls", measure.All}
}

// joined returns what the guests of one kernel measured, as if it had been one guest. Each of them measures what
// operations take with nothing attached; the figures of the first one are kept.
func joined(parts []measured) measured {
	whole := parts[0]
	for _, part := range parts[1:] {
		for _, m := range part.Measures {
			if m.Case != measure.Off {
				whole.Measures = append(whole.Measures, m)
			}
		}
	}
	return whole
}

// measureGuest boots a guest and returns what the programs measure there in the cases that only matches.
func (b *bench) measureGuest(ctx context.Context, guest vm.Guest, p programs, only string) (measured, error) {
	ctx, cancel := context.WithTimeout(ctx, guestTimeout)
	defer cancel()
	found := measured{Kernel: guest.Release}
	var said []string
	done := false
	arguments := fmt.Sprintf("-only=%s -every-rung=%v -floors=%v -start=%v", only, b.everyRung && !b.startOnly, b.floors, b.startOnly)
	fill := func(a *vm.Archive) error {
		a.File("arguments", []byte(arguments))
		return errors.Join(a.Copy("cost", p.cost), a.Copy("load", p.load))
	}
	err := guest.Boot(ctx, b.build, vm.Counting, job, fill, func(line string) {
		if b.verbose || b.startOnly && strings.Contains(line, " has started in ") {
			log.Printf("%s | %s", guest.Release, line)
		}
		said = append(said, line)
		text, marked := strings.CutPrefix(line, measure.Mark)
		var m measure.Measure
		switch {
		case text == "done 0":
			done = true
		case marked && json.Unmarshal([]byte(text), &m) == nil:
			found.Measures = append(found.Measures, m)
		}
	})
	if err == nil && !done {
		err = fmt.Errorf("it ends with: %s", strings.Join(said[max(0, len(said)-10):], "\n"))
	}
	if err != nil {
		err = fmt.Errorf("guest with %s: %w", guest.Release, err)
	}
	return found, err
}
