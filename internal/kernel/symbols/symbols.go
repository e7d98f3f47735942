// SPDX-License-Identifier: Apache-2.0

// Package symbols reads the functions of the kernel from its table, /proc/kallsyms.
package symbols

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// Table is the kernel's table of functions at one moment. It does not contain functions of modules
// that were loaded later.
type Table struct {
	functions []function // by address; those of one address in the order of the table
	names     string     // all names, one after the other
}

// Symbol is a name of a function. A function can have several of them, and
// several functions can have the same.
type Symbol struct {
	Name    string
	Address uint64
	Module  bool // it belongs to a module or to a BPF program, and not to the kernel itself
}

// function is 16 bytes, because there are 200,000 of them.
type function struct {
	address uint64
	start   uint32 // offset of its name in names
	length  uint16 // of its name; bufio.Scanner accepts no longer line
	module  bool
}

// Read reads the functions (types t, T, w, W) from text in the form of /proc/kallsyms, including
// those of modules, in any order.
//
// The kernel writes every address as 0 for readers that may not see them. Then the error matches
// [os.ErrPermission] and tells what is missing.
func Read(r io.Reader) (*Table, error) {
	var names strings.Builder
	var functions []function
	hidden := false
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		address, name, module, ok := parseSymbol(lines.Bytes())
		if !ok {
			continue
		}
		if address == 0 {
			hidden = true
			continue
		}
		functions = append(functions, function{address, uint32(names.Len()), uint16(len(name)), module})
		names.Write(name)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	if len(functions) == 0 && hidden {
		return nil, errHidden
	}
	if len(functions) == 0 {
		return nil, fmt.Errorf("no functions among the kernel symbols: %w", host.ErrUnsupported)
	}
	slices.SortStableFunc(functions, func(a, b function) int { return cmp.Compare(a.address, b.address) })
	return &Table{functions: slices.Clip(functions), names: names.String()}, nil
}

// errHidden is the error about a table without addresses.
var errHidden = fmt.Errorf("the kernel hides its addresses: CAP_SYSLOG is missing, or the sysctl kernel.kptr_restrict is 2: %w", os.ErrPermission)

// RequireAddresses returns errHidden unless the first functions of a table, as in
// [Read], have their addresses.
func RequireAddresses(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for functions := 0; functions < 16 && lines.Scan(); {
		address, _, _, ok := parseSymbol(lines.Bytes())
		if ok && address != 0 {
			return nil
		}
		if ok {
			functions++
		}
	}
	return errors.Join(lines.Err(), errHidden)
}

// parseSymbol splits a line: "ffffffff81e0a1c0 t tcp_v4_rcv\t[module]". ok is false if the line is
// not about a function.
func parseSymbol(line []byte) (address uint64, name []byte, module, ok bool) {
	digits, rest, _ := bytes.Cut(line, []byte(" "))
	kind, rest, _ := bytes.Cut(rest, []byte(" "))
	name, _, module = bytes.Cut(rest, []byte("\t"))
	if len(kind) != 1 || !bytes.Contains([]byte("tTwW"), kind) || len(name) == 0 {
		return 0, nil, false, false
	}
	address, err := strconv.ParseUint(string(digits), 16, 64)
	return address, name, module, err == nil
}

// Function returns the name of the function that contains addr, as the kernel has it:
// "tcp_v4_rcv", or "foo.isra.0" for a copy of foo made by the compiler. If one address has several
// names it is the first, which the kernel's own %pS prints too.
//
// The table has no sizes, so an address after the last function of a module is taken to be in that
// function. An address before all functions is in none.
func (s *Table) Function(addr uint64) (string, bool) {
	name, _, ok := s.Locate(addr)
	return name, ok
}

// Locate is Function, with the distance of addr from the beginning of the function.
func (s *Table) Locate(addr uint64) (name string, offset uint64, ok bool) {
	next := sort.Search(len(s.functions), func(i int) bool { return s.functions[i].address > addr })
	if next == 0 {
		return "", 0, false
	}
	first := next - 1
	for first > 0 && s.functions[first-1].address == s.functions[first].address {
		first--
	}
	found := s.functions[first]
	return strings.Clone(s.name(found)), addr - found.address, true // a clone, which does not keep the table in memory
}

// OwnFunction is Function for the functions of the kernel itself, which keep their addresses as
// long as it runs. ok is false for other functions, and if this cannot be told.
func (s *Table) OwnFunction(addr uint64) (string, bool) {
	next := sort.Search(len(s.functions), func(i int) bool { return s.functions[i].address > addr })
	if next == 0 || next == len(s.functions) || s.functions[next-1].module || s.functions[next].module {
		return "", false
	}
	return s.Function(addr)
}

func (s *Table) name(f function) string { return s.names[f.start:][:f.length] }

// All yields every name of every function, ordered by address; those of one address in the order
// of the table.
func (s *Table) All() iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		for _, f := range s.functions {
			if !yield(Symbol{Name: s.name(f), Address: f.address, Module: f.module}) {
				return
			}
		}
	}
}

// Extent returns the addresses where the kernel's own function of a name begins, and where the
// next function does.
func (s *Table) Extent(name string) (begin, end uint64, ok bool) {
	for i, f := range s.functions {
		if f.module || s.name(f) != name {
			continue
		}
		for _, next := range s.functions[i:] {
			if next.address > f.address {
				return f.address, next.address, true
			}
		}
	}
	return 0, 0, false
}
