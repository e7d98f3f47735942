// SPDX-License-Identifier: Apache-2.0

// Command cost measures what the instruments add to socket calls on the kernel that it runs on,
// and for each the minimum: the cost of empty programs at the same hooks. It prints each measure
// as a line of JSON after "@@ ". Command bench runs it, on this machine and in guests.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
	"github.com/seed-7756021b/nettap/internal/kernel"
)

// jobs are the jobs whose hooks are chosen from a ladder, by instrument.
var jobs = map[string]string{
	"traffic": "owner",
	"drops":   "drop",
	"accepts": "accept",
	"calls":   "call",

	measure.All: "call", // the instrument that depends on it most

	measure.AcceptsEverything: "accept",
	measure.Connections:       "owner",
	measure.Everything:        "call",
	measure.CallsWithoutWaits: "call",
	measure.TrafficBeyond:     "owner",
}

// cases are what is measured, in this order. "all" is the default configuration.
var cases = []string{"traffic", "drops", "accepts", "calls", measure.All}

// onRequest are those that are measured if they are asked for.
var onRequest = []string{measure.AcceptsEverything, measure.Connections, measure.Everything, measure.CallsWithoutWaits, measure.TrafficBeyond}

// meter measures by a load in a process of its own, in which nothing is observed that is not
// observed in every other process.
type meter struct {
	only      *regexp.Regexp
	everyRung bool
	floors    bool
	startOnly bool     // nothing is measured but how long the start takes
	load      []string // the load's program and arguments
	loads     int      // how many loads, each in a process of its own
}

func main() {
	log.SetFlags(0)
	var m meter
	only := flag.String("only", everyCase, "only the cases that this regular expression matches wholly, of "+strings.Join(slices.Concat(cases, []string{measure.Bpftrace}, onRequest), ", "))
	flag.BoolVar(&m.everyRung, "every-rung", false, "each way that the instruments can be attached, not only the one that is chosen")
	flag.BoolVar(&m.floors, "floors", true, "empty programs at the same hooks, too")
	flag.BoolVar(&m.startOnly, "start", false, "only start the instruments, with all functions, and say how long that took")
	load := flag.String("load", "/load", "the load's program")
	operations := flag.Int("operations", 50, "how many operations a round has")
	rounds := flag.Int("rounds", 30, "how many rounds there are, of which one of the least counts")
	least := flag.Bool("least", false, "it is the least of all that counts")
	flag.IntVar(&m.loads, "loads", 7, "how many times that is done, of which the median counts")
	flag.Parse()
	m.load = []string{*load, fmt.Sprint("-operations=", *operations), fmt.Sprint("-rounds=", *rounds), fmt.Sprint("-least=", *least)}
	var err error
	if m.only, err = regexp.Compile(wholly(*only)); err != nil {
		log.Fatal("cost: ", err)
	}
	if err := m.run(context.Background()); err != nil {
		log.Fatal("cost: ", err)
	}
}

func (m *meter) run(ctx context.Context) (err error) {
	if os.Getenv(onlyInGuests) != "" && !m.startOnly {
		show, failed := hideFunctions()
		if failed != nil {
			return fmt.Errorf("hide functions: %w", failed)
		}
		defer func() { err = errors.Join(err, show()) }()
	}
	defer kernel.Keep()() // types and symbols are the same for all that is started
	if !m.startOnly {
		if err := m.measure(ctx, measure.Measure{Case: measure.Off}); err != nil {
			return err
		}
	}
	for _, name := range m.cases() {
		if !m.only.MatchString(name) {
			continue
		}
		if err := m.ladder(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if !m.only.MatchString(measure.Bpftrace) {
		return nil
	}
	return m.bpftrace(ctx)
}

// everyCase is what is asked for if nothing is.
const everyCase = ".*"

// cases are what may be asked for.
func (m *meter) cases() []string {
	if m.only.String() == wholly(everyCase) {
		return cases
	}
	return slices.Concat(cases, onRequest)
}

func wholly(expression string) string { return "^(?:" + expression + ")$" }

// ladder measures a case on the rung that is chosen on this kernel. If it is asked for, an
// instrument is also measured on all lower rungs, each by avoiding those above it.
func (m *meter) ladder(ctx context.Context, name string) error {
	var avoid []string
	for {
		rung, err := m.rung(ctx, name, avoid)
		if errors.Is(err, kernel.ErrUnsupported) {
			if len(avoid) == 0 {
				log.Printf("%s does not run here: %v", name, err)
			}
			return nil
		}
		if err != nil || rung == "" || name == measure.All || slices.Contains(onRequest, name) || !m.everyRung {
			return err
		}
		avoid = append(avoid, rung)
	}
}

// rung measures a case with its instruments, and then empty programs at their hooks. It returns
// the hook that was chosen from the ladder.
func (m *meter) rung(ctx context.Context, name string, avoid []string) (rung string, err error) {
	before, err := attached()
	if err != nil {
		return "", err
	}
	began := time.Now()
	running, err := start(ctx, name, avoid)
	if err != nil {
		return "", err
	}
	rung = running.hooks[jobs[name]]
	if slices.Contains(avoid, rung) {
		return "", errors.Join(running.stop(ctx), kernel.ErrUnsupported)
	}
	log.Printf("%s by %s has started in %v", name, rung, time.Since(began).Round(time.Millisecond))
	if m.startOnly {
		return rung, running.stop(ctx)
	}
	time.Sleep(settling)
	places, placesErr := before.added(rung)
	err = m.measure(ctx, measure.Measure{Case: name, Rung: rung})
	if err := errors.Join(err, running.stop(ctx)); err != nil || !m.floors {
		return rung, err
	}
	if placesErr != nil {
		log.Printf("%s by %s: no floor: %v", name, rung, placesErr)
		return rung, nil
	}
	remove, err := attachEmpty(places)
	if err != nil {
		return rung, err
	}
	defer remove()
	return rung, m.measure(ctx, measure.Measure{Case: name, Rung: rung, Empty: true})
}

// settling is how long instruments are left alone at first: they begin to collect after a second.
const settling = 2500 * time.Millisecond

// measure runs the load, and prints what it took. Each time the load has sockets and buffers of
// its own. Where these are in the kernel's memory decides how the allocator frees them, which in
// some cases takes up to about 80 instructions more for a call.
func (m *meter) measure(ctx context.Context, what measure.Measure) error {
	took := map[string][]float64{}
	for range m.loads {
		command := exec.CommandContext(ctx, m.load[0], m.load[1:]...)
		command.Stderr = os.Stderr
		printed, err := command.Output()
		if err != nil {
			return err
		}
		var once map[string]float64
		if err := json.Unmarshal(printed, &once); err != nil {
			return err
		}
		for operation, instructions := range once {
			took[operation] = append(took[operation], instructions)
		}
	}
	what.Of = map[string]float64{}
	for operation, all := range took {
		slices.Sort(all)
		what.Of[operation] = all[len(all)/2]
	}
	line, err := json.Marshal(what)
	if err != nil {
		return err
	}
	fmt.Printf("%s%s\n", measure.Mark, line)
	return nil
}
