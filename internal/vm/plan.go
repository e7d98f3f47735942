// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Plan is the content of testdata/kernels.txt.
type Plan struct {
	Busybox string   // the suite that the guests' busybox-static is from
	Modules []string // for every guest
	Skips   []Skip   // those that hold on every kernel

	Features []Feature // the rows of the table of kernels
	Kernels  []Kernel
}

// Kernel is a kernel to boot: the newest package of a suite whose name matches Pattern.
type Kernel struct {
	Suite, Arch, Pattern string
	Skips                []Skip
	Parameters           []string // for its command line, in addition to ours
	Only                 string   // the only test that runs there; "" means all
	LeftOut              []string // tests that are not run there
	Distribution         bool     // the built distribution is run there, too
	Lacks                []string // modules of the plan that Debian does not build for it
	Minutes              int      // how long all tests take there, about; 0 if the plan does not say so
}

// Skip is a test that may or must skip itself on a kernel, and the reason.
type Skip struct {
	Pattern string // of the test's name, as in [path.Match]
	Must    bool
	Reason  string
}

// Feature is a row of the table of kernels: it holds for a kernel if the tests that match one of
// the patterns pass there.
type Feature struct {
	Name     string
	Patterns []string // as in [path.Match]
}

// ReadPlan reads a file such as testdata/kernels.txt, whose form is explained at its head. It
// returns only those kernels whose names match the regular expression only.
func ReadPlan(file, only string) (Plan, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Plan{}, err
	}
	p, err := parsePlan(string(text))
	if err != nil {
		return Plan{}, fmt.Errorf("%s: %w", file, err)
	}
	wanted, err := regexp.Compile(only)
	if err != nil {
		return Plan{}, err
	}
	p.Kernels = slices.DeleteFunc(p.Kernels, func(k Kernel) bool { return !wanted.MatchString(k.String()) })
	if len(p.Kernels) == 0 {
		return Plan{}, fmt.Errorf("%s has no kernel like %q", file, only)
	}
	return p, nil
}

// parser is a plan that is being read.
type parser struct {
	Plan
	lists map[string][]string // of tests, by "@" and their names
}

func parsePlan(text string) (Plan, error) {
	p := parser{lists: map[string][]string{}}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := p.add(words[0], words[1:]); err != nil {
			return Plan{}, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return p.Plan, nil
}

func (p *parser) add(keyword string, words []string) error {
	switch {
	case keyword == "busybox" && len(words) == 1:
		p.Busybox = words[0]
	case keyword == "modules":
		p.Modules = append(p.Modules, words...)
	case keyword == "feature" && len(words) >= 2:
		patterns, err := p.tests(words[0])
		p.Features = append(p.Features, Feature{Name: strings.Join(words[1:], " "), Patterns: patterns})
		return err
	case keyword == "tests" && len(words) >= 2 && len(p.Kernels) == 0:
		p.lists["@"+words[0]] = append(p.lists["@"+words[0]], words[1:]...)
	case keyword == "kernel" && len(words) == 3:
		if _, known := machines[words[1]]; !known {
			return fmt.Errorf("unknown architecture %s", words[1])
		}
		if _, err := path.Match(words[2], ""); err != nil {
			return fmt.Errorf("pattern %s: %w", words[2], err)
		}
		p.Kernels = append(p.Kernels, Kernel{Suite: words[0], Arch: words[1], Pattern: words[2], Skips: slices.Clone(p.Skips)})
	case keyword == "parameters" && len(words) > 0 && len(p.Kernels) > 0:
		last := &p.Kernels[len(p.Kernels)-1]
		last.Parameters = append(last.Parameters, words...)
	case keyword == "only" && len(words) == 1 && len(p.Kernels) > 0:
		p.Kernels[len(p.Kernels)-1].Only = words[0]
	case keyword == "leave-out" && len(words) >= 2 && len(p.Kernels) > 0:
		tests, err := p.tests(words[0])
		last := &p.Kernels[len(p.Kernels)-1]
		last.LeftOut = append(last.LeftOut, tests...) // the rest of the line is the reason
		return err
	case keyword == "distribution" && len(words) == 0 && len(p.Kernels) > 0:
		p.Kernels[len(p.Kernels)-1].Distribution = true
	case keyword == "minutes" && len(words) == 1 && len(p.Kernels) > 0:
		minutes, err := strconv.Atoi(words[0])
		p.Kernels[len(p.Kernels)-1].Minutes = minutes
		return err
	case keyword == "lacks" && len(words) > 0 && len(p.Kernels) > 0:
		last := &p.Kernels[len(p.Kernels)-1]
		last.Lacks = append(last.Lacks, words...)
	case (keyword == "must-skip" || keyword == "may-skip") && len(words) >= 2:
		patterns, err := p.tests(words[0])
		skips := &p.Skips
		if len(p.Kernels) > 0 {
			skips = &p.Kernels[len(p.Kernels)-1].Skips
		}
		for _, pattern := range patterns {
			*skips = append(*skips, Skip{Pattern: pattern, Must: keyword == "must-skip", Reason: strings.Join(words[1:], " ")})
		}
		return err
	default:
		return fmt.Errorf("%s does not go with %d words here", keyword, len(words))
	}
	return nil
}

// tests returns the names or patterns of a word such as "TestKernelA,TestKernelB/*" or "@list". The error is
// about a list that the plan does not have, or a pattern that [path.Match] refuses.
func (p *parser) tests(word string) ([]string, error) {
	patterns := strings.Split(word, ",")
	if strings.HasPrefix(word, "@") {
		patterns = p.lists[word]
		if patterns == nil {
			return nil, fmt.Errorf("there is no list of tests %s", word)
		}
	}
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("pattern %s: %w", pattern, err)
		}
	}
	return patterns, nil
}

// modulesOf returns the modules to load on a kernel.
func (p Plan) modulesOf(k Kernel) []string {
	return slices.DeleteFunc(slices.Clone(p.Modules), func(module string) bool { return slices.Contains(k.Lacks, module) })
}

// SkipOf returns what the plan says about skipping a test, if it says anything.
func (k Kernel) SkipOf(test string) (Skip, bool) {
	for _, skip := range k.Skips {
		if matches, _ := path.Match(skip.Pattern, test); matches { // parsePlan has checked the pattern
			return skip, true
		}
	}
	return Skip{}, false
}

// String returns the kernel as the plan names it.
func (k Kernel) String() string {
	return strings.Join(append([]string{k.Suite, k.Arch, k.Pattern}, k.Parameters...), " ")
}

var releaseOfPattern = regexp.MustCompile(`linux-image-([0-9]+)(\.[0-9]+)?`)

// Title names the kernel by what the plan asks for: "6.1 x86-64", "7.x x86-64", "6.12 RT x86-64".
func (k Kernel) Title() string {
	architecture := map[string]string{"amd64": "x86-64"}[k.Arch]
	if architecture == "" {
		architecture = k.Arch
	}
	words := releaseOfPattern.FindStringSubmatch(k.Pattern)
	if words == nil {
		return k.String()
	}
	if words[2] == "" {
		words[2] = ".x"
	}
	if strings.Contains(k.Pattern, "-rt-") {
		words[2] += " RT"
	}
	return words[1] + words[2] + " " + architecture
}
