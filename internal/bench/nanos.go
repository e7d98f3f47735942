// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os/exec"
	"strings"
	"time"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
	"github.com/seed-7756021b/nettap/internal/vm"
)

// thisMachine is the title of what is measured here and not in a guest.
const thisMachine = "this machine"

// nanos returns what operations take on this machine, in nanoseconds. In each turn every case is
// measured once, so that all are measured under the same conditions. The minimum counts, since
// other work on the machine does not disturb every turn.
func (b *bench) nanos(ctx context.Context) (measured, error) {
	p, err := b.buildPrograms(ctx, ".")
	if err != nil {
		return measured{}, fmt.Errorf("build what measures: %w", err)
	}
	release, err := vm.Output(exec.CommandContext(ctx, "uname", "-r"))
	if err != nil {
		return measured{}, err
	}
	least := measured{Kernel: strings.TrimSpace(string(release)), Title: thisMachine}
	began := time.Now()
	for turn := 0; turn == 0 || time.Since(began) < b.hereTime; turn++ {
		command := exec.CommandContext(ctx, p.cost, "-load="+p.load, "-only="+b.only, "-operations=5000", "-rounds=10", "-least", "-loads=1", fmt.Sprint("-floors=", b.floors))
		printed, err := vm.Output(command)
		if err != nil {
			return measured{}, err
		}
		found, err := readMeasures(string(printed))
		if err != nil {
			return measured{}, err
		}
		least.Measures = leastOf(least.Measures, found)
		if b.verbose {
			log.Printf("turn %d on this machine: %v\n%s", turn+1, time.Since(began).Round(time.Second), printed)
		}
	}
	return least, nil
}

func readMeasures(printed string) ([]measure.Measure, error) {
	var found []measure.Measure
	lines := bufio.NewScanner(strings.NewReader(printed))
	for lines.Scan() {
		text, marked := strings.CutPrefix(lines.Text(), measure.Mark)
		if !marked {
			continue
		}
		var m measure.Measure
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	if len(found) == 0 {
		return nil, errors.New("nothing was measured")
	}
	return found, nil
}

// leastOf returns each measure with the smaller of its two times.
func leastOf(before, now []measure.Measure) []measure.Measure {
	if before == nil {
		return now
	}
	for _, m := range now {
		for _, other := range before {
			if other.Case == m.Case && other.Rung == m.Rung && other.Empty == m.Empty {
				for operation, nanos := range m.Of {
					other.Of[operation] = min(nanos, other.Of[operation])
				}
			}
		}
	}
	return before
}
