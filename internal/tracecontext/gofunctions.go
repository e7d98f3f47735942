// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"iter"
)

// goFunctions is the table of functions that a Go program needs at run time, and so contains even
// when it is stripped. Package debug/gosym reads it as well, but copies every name, and a crafted
// table could make it fill all memory.
//
// Source: type pcHeader and type _func in src/runtime, the same from Go 1.20.
type goFunctions struct {
	entries []byte // for each function {entry, offset of its record in records}, 32 bits each
	records []byte // each starts with {entry, offset of the name in names}, 32 bits each
	names   []byte // each ends with a zero byte
	text    uint64 // the address, as linked, that entries are relative to
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

// newGoFunctions interprets a table at the beginning of content.
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

// findGoFunctions returns the table, together with what follows it, and its address. The table has
// a section of its own, except that up to Go 1.25 the system's linker put it in the middle of
// .data.rel.ro of a position-independent program.
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

// findGoText returns the address that the entries of functions are relative to. If the program
// contains C code this is not the beginning of section .text. From Go 1.26 the table does not
// contain it, but the description of the module has a section of its own.
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

// all yields the address of each function, as linked, and its name. The slice with the name also
// contains everything after the zero byte that ends it.
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
