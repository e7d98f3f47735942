// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-7756021b/nettap/internal/bench/measure"
	"github.com/seed-7756021b/nettap/internal/vm"
)

// record is the result of a run. It is kept in the repository, to compare later runs with it, and
// in the build directory, to show what has changed.
type record struct {
	Kernels []measured `json:"kernels"`         // in guests, in instructions
	Nanos   *measured  `json:"nanos,omitempty"` // on one machine
}

func readRecord(file string) (record, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

func (r record) write(file string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// with returns the record with the kernels of later in place of its own measures of the same
// kernels.
func (r record) with(later record) record {
	all := record{Kernels: slices.Clone(r.Kernels), Nanos: r.Nanos}
	for _, m := range later.Kernels {
		same := func(other measured) bool { return other.Title == m.Title }
		if i := slices.IndexFunc(all.Kernels, same); i >= 0 {
			all.Kernels[i] = m
			continue
		}
		all.Kernels = append(all.Kernels, m)
	}
	if later.Nanos != nil {
		all.Nanos = later.Nanos
	}
	return all
}

// completedBy returns the record with the measures of kept for the cases that were not measured, if
// the kernel's version is the same. Who records a part says thereby that the rest has not changed.
func (r record) completedBy(kept record) record {
	all := record{Kernels: slices.Clone(r.Kernels), Nanos: r.Nanos}
	for i, m := range all.Kernels {
		if before, ok := kept.of(m.Title); ok && before.Kernel == m.Kernel {
			all.Kernels[i].Measures = m.completedBy(before.Measures)
		}
	}
	return all
}

// completedBy returns the measures, and those of other cases, in the order of the cases.
func (m measured) completedBy(kept []measure.Measure) []measure.Measure {
	isMeasured := func(of measure.Measure) bool {
		return slices.ContainsFunc(m.Measures, func(other measure.Measure) bool { return other.Case == of.Case })
	}
	all := slices.Concat(m.Measures, slices.DeleteFunc(slices.Clone(kept), isMeasured))
	order := func(of measure.Measure) int { return slices.Index(caseOrder, of.Case) } // nothing attached comes first
	slices.SortStableFunc(all, func(a, b measure.Measure) int { return order(a) - order(b) })
	return all
}

// of returns the measures of a kernel, whatever its version.
func (r record) of(title string) (measured, bool) {
	i := slices.IndexFunc(r.Kernels, func(m measured) bool { return m.Title == title })
	if i < 0 {
		return measured{}, false
	}
	return r.Kernels[i], true
}

// chosen returns the measures of a case on the rung that is chosen by default, which is the first.
func (m measured) chosen(name string) (measure.Measure, bool) {
	i := slices.IndexFunc(m.Measures, func(other measure.Measure) bool { return other.Case == name && !other.Empty })
	if i < 0 {
		return measure.Measure{}, false
	}
	return m.Measures[i], true
}

// tolerance is the part by which figures may grow.
const tolerance = 0.05

// accuracyOf returns how accurate the figures of an operation are, as a part of what it takes with
// nothing attached. A connection makes and frees sockets, and the work of the allocator for that
// differs between processes.
func accuracyOf(operation string) float64 {
	if operation == measure.Connection {
		return 0.012
	}
	return 0.003
}

// compare returns an error that names each figure that is worse than in the record. The cost of
// each case counts, whichever hooks are chosen.
func (m measured) compare(recorded measured) error {
	var errs error
	off := m.off()
	for _, of := range recorded.Measures {
		chosen, _ := recorded.chosen(of.Case)
		if of.Case == measure.Off || of.Empty || of.Rung != chosen.Rung {
			continue
		}
		now, ok := m.chosen(of.Case)
		if !ok {
			errs = errors.Join(errs, fmt.Errorf("%s: %s was not measured", m.Kernel, of.Case))
			continue
		}
		before, after := recorded.more(of), m.more(now)
		for _, operation := range measure.Operations {
			if after[operation] > before[operation]*(1+tolerance)+off[operation]*accuracyOf(operation) {
				errs = errors.Join(errs, fmt.Errorf("%s: %s: %s takes %.0f instructions more than with nothing attached, and took %.0f at commit %s",
					m.Kernel, of.Case, operation, after[operation], before[operation], recorded.Commit))
			}
		}
	}
	return errs
}

// compare compares what was counted with the record. If the record is about another version of a
// kernel, the recorded commit is measured on this version.
func (b *bench) compare(ctx context.Context, counted []measured, kept record) error {
	var errs error
	for i, m := range counted {
		recorded, ok := kept.of(m.Title)
		if !ok {
			log.Printf("bench: nothing is recorded of %s, which is no failure", m.Title)
			continue
		}
		if recorded.Kernel != m.Kernel {
			again, err := b.countCommit(ctx, recorded.Commit, b.plan.Kernels[i])
			if errors.Is(err, errNoCommit) {
				log.Printf("bench: the record is of %s, and this is %s: %v, so they cannot be compared; make bench-record records this one", recorded.Kernel, m.Kernel, err)
				continue
			}
			if err != nil {
				return err
			}
			recorded = again
		}
		errs = errors.Join(errs, m.compare(recorded))
	}
	return errs
}

var errNoCommit = errors.New("this clone has not the commit that is recorded")

// countCommit measures a commit of this repository on one kernel.
func (b *bench) countCommit(ctx context.Context, commit string, k vm.Kernel) (measured, error) {
	if _, err := vm.Output(exec.CommandContext(ctx, "git", "cat-file", "-e", commit+"^{commit}")); err != nil {
		return measured{}, fmt.Errorf("%w, %s", errNoCommit, commit)
	}
	log.Printf("bench: measuring commit %s on %s", commit, k.Title())
	tree, err := filepath.Abs(filepath.Join(b.build, "recorded"))
	if err != nil {
		return measured{}, err
	}
	remove := func() error {
		_, err := vm.Output(exec.Command("git", "worktree", "remove", "--force", tree))
		return err
	}
	if _, err := os.Stat(tree); err == nil { // left over from a run that was killed
		if err := remove(); err != nil {
			return measured{}, err
		}
	}
	if _, err := vm.Output(exec.CommandContext(ctx, "git", "worktree", "add", "--detach", tree, commit)); err != nil {
		return measured{}, err
	}
	one := *b
	one.plan.Kernels = []vm.Kernel{k}
	counted, err := one.count(ctx, tree)
	if err := errors.Join(err, remove()); err != nil {
		return measured{}, fmt.Errorf("measure commit %s: %w", commit, err)
	}
	counted[0].Commit = commit
	return counted[0], nil
}

// cleanCommit returns the commit that is checked out. It returns an error if files differ from it,
// apart from those that a record is written to.
func cleanCommit(ctx context.Context) (string, error) {
	changed, err := vm.Output(exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no", "--", ".",
		":!"+recordFile, ":!"+tableFile, ":!"+scaleFile, ":!"+pictureDirectory+"/*.svg", ":!"+sizingFile, ":!"+sizingDocument))
	if err != nil {
		return "", err
	}
	if len(changed) > 0 {
		return "", fmt.Errorf("what is recorded has to be a commit, and these files differ from it:\n%s", changed)
	}
	commit, err := vm.Output(exec.CommandContext(ctx, "git", "rev-parse", "HEAD"))
	return strings.TrimSpace(string(commit)), err
}
