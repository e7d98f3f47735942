package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// plan is what kernels.txt says.
type plan struct {
	busybox string   // the suite that the guests' busybox-static is from
	modules []string // for every guest
	skips   []skip   // on every kernel

	features []feature // the rows of the table of kernels
	kernels  []kernel
}

// kernel is one to test on: the newest package of a suite whose name matches pattern.
type kernel struct {
	suite, arch, pattern string
	skips                []skip
	parameters           []string // for its command line, beside ours
	only                 string   // the test that alone runs there; "" is all
	distribution         bool     // what is built is run there, too
	lacks                []string // modules of the plan that Debian does not build of it
}

// skip is a test that may skip itself there, or must, and why it does.
type skip struct {
	pattern string // of the test's name, as in [path.Match]
	must    bool
	reason  string
}

// parsePlan reads kernels.txt, whose form its head explains.
func parsePlan(text string) (plan, error) {
	var p plan
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := p.add(words[0], words[1:]); err != nil {
			return plan{}, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return p, nil
}

func (p *plan) add(keyword string, words []string) error {
	switch {
	case keyword == "busybox" && len(words) == 1:
		p.busybox = words[0]
	case keyword == "modules":
		p.modules = append(p.modules, words...)
	case keyword == "feature" && len(words) >= 2:
		f := feature{name: strings.Join(words[1:], " "), patterns: strings.Split(words[0], ",")}
		for _, pattern := range f.patterns {
			if _, err := path.Match(pattern, ""); err != nil {
				return fmt.Errorf("pattern %s: %w", pattern, err)
			}
		}
		p.features = append(p.features, f)
	case keyword == "kernel" && len(words) == 3:
		if _, known := machines[words[1]]; !known {
			return fmt.Errorf("unknown architecture %s", words[1])
		}
		if _, err := path.Match(words[2], ""); err != nil {
			return fmt.Errorf("pattern %s: %w", words[2], err)
		}
		p.kernels = append(p.kernels, kernel{suite: words[0], arch: words[1], pattern: words[2], skips: slices.Clone(p.skips)})
	case keyword == "parameters" && len(words) > 0 && len(p.kernels) > 0:
		last := &p.kernels[len(p.kernels)-1]
		last.parameters = append(last.parameters, words...)
	case keyword == "only" && len(words) == 1 && len(p.kernels) > 0:
		p.kernels[len(p.kernels)-1].only = words[0]
	case keyword == "distribution" && len(words) == 0 && len(p.kernels) > 0:
		p.kernels[len(p.kernels)-1].distribution = true
	case keyword == "lacks" && len(words) > 0 && len(p.kernels) > 0:
		last := &p.kernels[len(p.kernels)-1]
		last.lacks = append(last.lacks, words...)
	case (keyword == "must-skip" || keyword == "may-skip") && len(words) >= 2:
		if _, err := path.Match(words[0], ""); err != nil {
			return fmt.Errorf("pattern %s: %w", words[0], err)
		}
		skips := &p.skips
		if len(p.kernels) > 0 {
			skips = &p.kernels[len(p.kernels)-1].skips
		}
		*skips = append(*skips, skip{pattern: words[0], must: keyword == "must-skip", reason: strings.Join(words[1:], " ")})
	default:
		return fmt.Errorf("%s does not go with %d words here", keyword, len(words))
	}
	return nil
}

// modulesOf returns what to load of a kernel.
func (p plan) modulesOf(k kernel) []string {
	return slices.DeleteFunc(slices.Clone(p.modules), func(module string) bool { return slices.Contains(k.lacks, module) })
}

// skipOf returns what the plan says about skipping a test, if it says anything.
func (k kernel) skipOf(test string) (skip, bool) {
	for _, skip := range k.skips {
		if matches, _ := path.Match(skip.pattern, test); matches { // parsePlan has tried it
			return skip, true
		}
	}
	return skip{}, false
}

// String returns the kernel as the plan names it.
func (k kernel) String() string {
	return strings.Join(append([]string{k.suite, k.arch, k.pattern}, k.parameters...), " ")
}
