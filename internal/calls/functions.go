// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

const (
	socketFile   = "net/socket.c"
	maxFunctions = 1024 // how many functions can be traced at the same time
)

// functionName matches the name of a function. Only names that the compiler makes have a dot.
var functionName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// CheckFunctionPattern returns an error unless pattern can name functions. "net/socket.c" names all
// functions of that file, a name such as "tcp_sendmsg" one function, and a glob such as "tcp_*"
// the functions that [path.Match] matches.
func CheckFunctionPattern(pattern string) error {
	switch _, err := path.Match(pattern, ""); {
	case pattern == socketFile:
		return nil
	case pattern == "":
		return fmt.Errorf("%q names no function", pattern)
	case strings.HasSuffix(pattern, ".c") || strings.Contains(pattern, "/"):
		return fmt.Errorf("%q is a file, and the only one whose functions are known is %s", pattern, socketFile)
	case err != nil:
		return fmt.Errorf("%q: %w", pattern, err)
	case !isGlob(pattern) && !functionName.MatchString(pattern):
		return fmt.Errorf("%q is no name of a function", pattern)
	}
	return nil
}

func isGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// chooseFunctions returns the functions that the patterns name, each once, sorted by their names, with
// what types returns for them. A function with several names has the one that is a pattern, or
// otherwise one that has a type.
//
// A function that cannot be traced is left out if a file or a glob names it, and is an error if
// a pattern is its name. A pattern that names no function is an error, too; for net/socket.c that
// error matches [kernel.ErrUnsupported].
func chooseFunctions(patterns []string, symbols *symbols.Table, types func(name string) (kernel.Function, error)) ([]kernel.Function, error) {
	attachable := symbols.Attachable()
	chosen := map[uint64][]string{} // names by address
	var errs []error
	for _, pattern := range patterns {
		found, err := find(pattern, attachable)
		if err == nil && len(found) == 0 {
			err = nothing(pattern, symbols)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("functions: %w", err))
		}
		for _, f := range found {
			chosen[f.Address] = append(chosen[f.Address], f.Name)
		}
	}
	if len(chosen) > maxFunctions {
		errs = append(errs, fmt.Errorf("functions: the patterns match %d functions, and at most %d can be traced: narrow them", len(chosen), maxFunctions))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	functions := make([]kernel.Function, 0, len(chosen))
	for address, names := range chosen {
		f, err := choose(names, patterns, types)
		if err != nil {
			return nil, err
		}
		f.Address = address
		functions = append(functions, f)
	}
	slices.SortFunc(functions, func(a, b kernel.Function) int { return strings.Compare(a.Name, b.Name) })
	return functions, nil
}

// choose returns the function at one address, by the best of its names.
func choose(names, patterns []string, types func(string) (kernel.Function, error)) (kernel.Function, error) {
	slices.Sort(names)
	var best kernel.Function
	for i, name := range slices.Compact(names) {
		f, err := types(name)
		if err != nil {
			return kernel.Function{}, err
		}
		if i == 0 || rank(f, patterns) > rank(best, patterns) {
			best = f
		}
	}
	return best, nil
}

// rank returns a number that is higher for a better name of a function.
func rank(f kernel.Function, patterns []string) int {
	switch {
	case slices.Contains(patterns, f.Name):
		return 3
	case f.Type != 0:
		return 2
	case f.Twin != 0:
		return 1
	}
	return 0
}

// find returns the attachable functions that a pattern names.
func find(pattern string, attachable []symbols.Symbol) ([]symbols.Symbol, error) {
	if err := CheckFunctionPattern(pattern); err != nil {
		return nil, err
	}
	if pattern == socketFile {
		return socketFunctions(attachable), nil
	}
	if !isGlob(pattern) {
		return lookup(attachable, pattern), nil
	}
	var found []symbols.Symbol
	observers := 0
	for _, symbol := range attachable {
		if ok, _ := path.Match(pattern, symbol.Name); !ok {
			continue
		}
		if isObserver(symbol.Name) {
			observers++
			continue
		}
		found = append(found, symbol)
	}
	if len(found) == 0 && observers > 0 {
		return nil, fmt.Errorf("%q matches only functions that serve tracing itself, which have to be written out", pattern)
	}
	return found, nil
}

// lookup returns the function with a name, or nil.
func lookup(attachable []symbols.Symbol, name string) []symbols.Symbol {
	i, ok := slices.BinarySearchFunc(attachable, name, func(s symbols.Symbol, name string) int { return strings.Compare(s.Name, name) })
	if !ok {
		return nil
	}
	return attachable[i : i+1]
}

// isObserver reports whether a function runs only because something is traced. nettap's own programs
// call some of these, and the kernel does not run hooks inside a program. A glob for functions of the
// network must not match them: they do not belong to the network, and would be counted as losses.
func isObserver(name string) bool {
	return slices.ContainsFunc([]string{
		"bpf_", "__bpf_", "__traceiter_", "__do_trace_", "__probestub_", "perf_trace_", "trace_event_", "trace_raw_output_",
		"call_trace_sock_", // called if a tracepoint of sending or receiving is in use
	}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// nothing returns an error that says why a pattern names no function that can be traced.
func nothing(pattern string, symbols *symbols.Table) error {
	if pattern == socketFile {
		return fmt.Errorf("%q: none of its functions is known: %w", pattern, kernel.ErrUnsupported)
	}
	addresses := map[uint64]bool{}
	inModule, part := false, ""
	for symbol := range symbols.All() {
		if symbol.Name == pattern {
			addresses[symbol.Address] = true
			inModule = inModule || symbol.Module
		}
		if strings.HasPrefix(symbol.Name, pattern+".") {
			part = symbol.Name
		}
	}
	switch {
	case len(addresses) > 1:
		return fmt.Errorf("%q is the name of %d functions of this kernel, which cannot be told apart", pattern, len(addresses))
	case inModule:
		return fmt.Errorf("%q is of a kernel module, and only functions of the kernel itself can be traced", pattern)
	case len(addresses) == 1:
		return fmt.Errorf("%q cannot be traced on this kernel", pattern)
	case part != "":
		return fmt.Errorf("%q cannot be traced on this kernel, where the compiler made it %s", pattern, part)
	}
	return fmt.Errorf("%q matches no function of this kernel: /proc/kallsyms has the names of all", pattern)
}
