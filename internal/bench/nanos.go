package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
	"github.com/seed-7756021b/nettap/internal/vm"
)

// turns is how often everything is measured on this machine, of which the least counts:
// what else runs here is not there all the time.
const turns = 4

// nanos returns what operations take on this machine, in nanoseconds.
func (b *bench) nanos(ctx context.Context) (measured, error) {
	program, err := b.buildCost(ctx, ".")
	if err != nil {
		return measured{}, fmt.Errorf("build what measures: %w", err)
	}
	release, err := vm.Output(exec.CommandContext(ctx, "uname", "-r"))
	if err != nil {
		return measured{}, err
	}
	least := measured{Kernel: strings.TrimSpace(string(release)), Title: "this machine"}
	for range turns {
		command := exec.CommandContext(ctx, program, "-only="+b.only, "-operations=10000", "-rounds=15", fmt.Sprint("-floors=", b.floors))
		printed, err := vm.Output(command)
		if err != nil {
			return measured{}, err
		}
		found, err := readMeasures(string(printed))
		if err != nil {
			return measured{}, err
		}
		least.Measures = leastOf(least.Measures, found)
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

// leastOf returns each measure with what it took least of two times.
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
