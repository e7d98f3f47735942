// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"iter"
)

// goFunctions is the table of functions that a Go program needs to run, and so
// has even when it is stripped. Package debug/gosym reads it too, but it copies
// every name, and a crafted table makes it fill all memory.
//
// Source: type pcHeader and type _func in src/runtime, the same from Go 1.20.
type goFunctions struct {
	entries []byte // for each function {entry, offset of its record in records}, 32 bits each
	records []byte // which start with {entry, offset of the name in names}, 32 bits each
	names   []byte // each ended by a zero
	text    uint64 // address as linked that entries count from
}

const (
	goFunctionsMagic = "\xf1\xff\xff\xff\x00\x00"
	goFunctionsSize  = 8 + 8*8 // bytes of struct pcHeader

	goModuleText = 176 // offset of text in struct moduledata, in the same releases
)

// readGoFunctions reads the table of a program built with Go 1.20 or later.
func readGoFunctions(f *elf.File) (*goFunctions, error) {
	content, address, err := findGoFunctions(f)
	if err != nil {
		return nil, err
	}
	text, err := findGoText(f, address)
	if err != nil {
		return nil, err
	}
	return newGoFunctions(content, text)
}

// newGoFunctions takes a table apart, which begins content.
func newGoFunctions(content []byte, text uint64) (*goFunctions, error) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(content[8+8*i:]) }
	if len(content) < goFunctionsSize {
		return nil, errors.New("its header is cut off")
	}
	count, names, records := word(0), word(3), word(7)
	size := uint64(len(content))
	if names > size || records > size || count > (size-records)/8 {
		return nil, errors.New("its parts are outside of it")
	}
	return &goFunctions{
		entries: content[records:][:8*count],
		records: content[records:],
		names:   content[names:],
		text:    text,
	}, nil
}

// findGoFunctions returns the table, what follows it included, and its address.
// It has a section of its own, except that until Go 1.25 the system's linker put
// it in the middle of .data.rel.ro of a position-independent program.
func findGoFunctions(f *elf.File) (content []byte, address uint64, err error) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab", ".data.rel.ro"} {
		s := f.Section(name)
		if s == nil {
			continue
		}
		if content, err = sectionData(s); err != nil {
			return nil, 0, err
		}
		start := bytes.Index(content, []byte(goFunctionsMagic))
		if start >= 0 {
			return content[start:], s.Addr + uint64(start), nil
		}
	}
	return nil, 0, errors.New("there is none")
}

// findGoText returns what the entries of functions count from. It is not where
// section .text begins if the program has C code too. From Go 1.26 the table does
// not have it, and the description of the module has its own section.
func findGoText(f *elf.File, table uint64) (uint64, error) {
	pointer := table + 8 + 2*8
	if module := f.Section(".go.module"); module != nil {
		pointer = module.Addr + goModuleText
	}
	text, err := readPointer(f, pointer)
	if err == nil && text == 0 {
		err = errors.New("it does not say where the functions are")
	}
	return text, err
}

// all yields where each function starts, as linked, and its name: whatever follows
// the zero that ends it is there too.
func (g *goFunctions) all() iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		for entry := g.entries; len(entry) >= 8; entry = entry[8:] {
			record := uint64(binary.LittleEndian.Uint32(entry[4:]))
			if record+8 > uint64(len(g.records)) {
				return
			}
			name := uint64(binary.LittleEndian.Uint32(g.records[record+4:]))
			if name > uint64(len(g.names)) {
				return
			}
			if !yield(g.text+uint64(binary.LittleEndian.Uint32(entry)), g.names[name:]) {
				return
			}
		}
	}
}
