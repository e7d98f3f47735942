// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
)

// threadVariableName is the thread-local variable of OTEP 4947 that points to a
// thread's context.
const threadVariableName = "otel_thread_ctx_v1"

// threadVariable is what the file of a program or library tells about its variable.
type threadVariable struct {
	machine elf.Machine
	value   uint64 // its offset in the file's block of thread-local variables
	fixed   int64  // its offset from the thread pointer if the file is the program

	codeOffset  uint64 // offset of the executable segment in the file
	codeAddress uint64 // its address as linked

	references []reference
}

// reference is a place that the code of a library uses to find the variable. The loader writes its
// decision there.
type reference struct {
	kind    referenceKind
	address uint64 // as linked
}

type referenceKind int

const (
	fromThreadPointer referenceKind = iota + 1 // the offset from the thread pointer (initial exec)
	descriptor                                 // a function and its argument (TLSDESC)
	moduleNumber                               // the number of the library (general dynamic)
)

// referenceKinds are the relocations that make references, by machine.
//
// Source: ELF Handling For Thread-Local Storage (Drepper) for x86-64; ELF for the
// Arm 64-bit Architecture, "Dynamic relocations".
var referenceKinds = map[elf.Machine]map[uint32]referenceKind{
	elf.EM_X86_64: {
		uint32(elf.R_X86_64_TPOFF64):  fromThreadPointer,
		uint32(elf.R_X86_64_TLSDESC):  descriptor,
		uint32(elf.R_X86_64_DTPMOD64): moduleNumber,
	},
	elf.EM_AARCH64: {
		uint32(elf.R_AARCH64_TLS_TPREL64):  fromThreadPointer,
		uint32(elf.R_AARCH64_TLSDESC):      descriptor,
		uint32(elf.R_AARCH64_TLS_DTPMOD64): moduleNumber,
	},
}

// readThreadVariable searches a file for the variable. It returns nil if the file does not have
// it, or is no ELF file.
func readThreadVariable(r io.ReaderAt) (*threadVariable, error) {
	f, err := openELF(r)
	if err != nil {
		return nil, nil //nolint:nilerr // most mapped files that are not ELF are data
	}
	index, value, err := findThreadVariable(f)
	if index == 0 || err != nil {
		return nil, err
	}
	v := &threadVariable{machine: f.Machine, value: value}
	for _, p := range slices.Backward(f.Progs) {
		switch {
		case p.Type == elf.PT_TLS:
			v.fixed = fixedOffset(f.Machine, p.ProgHeader, value)
		case p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0:
			v.codeOffset, v.codeAddress = p.Off, p.Vaddr // only the first one counts
		}
	}
	err = relocations(f, func(r elf.Rela64) bool {
		kind := referenceKinds[f.Machine][elf.R_TYPE64(r.Info)]
		if kind != 0 && refersTo(kind, r, index, value) {
			v.references = append(v.references, reference{kind, r.Off})
		}
		return true
	})
	return v, err
}

// findThreadVariable returns the variable's index in the table of dynamic symbols and its value;
// index 0 if it is not there.
func findThreadVariable(f *elf.File) (index uint32, value uint64, err error) {
	table := f.SectionByType(elf.SHT_DYNSYM)
	hasVariables := false
	for _, p := range f.Progs {
		hasVariables = hasVariables || p.Type == elf.PT_TLS
	}
	if table == nil || !hasVariables || int(table.Link) >= len(f.Sections) {
		return 0, 0, nil
	}
	if err := errors.Join(checkSection(table), checkSection(f.Sections[table.Link])); err != nil {
		return 0, 0, err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, 0, fmt.Errorf("read dynamic symbols: %w", err)
	}
	for i, s := range symbols {
		if s.Name == threadVariableName && elf.ST_TYPE(s.Info) == elf.STT_TLS && s.Section != elf.SHN_UNDEF {
			// DynamicSymbols leaves out the first symbol, which is empty
			return uint32(i + 1), s.Value, nil
		}
	}
	return 0, 0, nil
}

// refersTo reports whether a relocation is about the variable. A library that binds its own
// symbols at once refers to the library (symbol 0), and to the variable by its value.
func refersTo(kind referenceKind, r elf.Rela64, index uint32, value uint64) bool {
	switch elf.R_SYM64(r.Info) {
	case index:
		return true
	case 0:
		return kind == moduleNumber || r.Addend >= 0 && uint64(r.Addend) == value
	}
	return false
}

// fixedOffset returns the offset from the thread pointer of a variable of the program itself. Its
// block is below the thread pointer on x86-64, and after the two words that the thread pointer
// points to on arm64.
//
// Source: getTlsTpOffset in lld/ELF/InputSection.cpp.
func fixedOffset(machine elf.Machine, block elf.ProgHeader, value uint64) int64 {
	mask := max(block.Align, 1) - 1
	if machine == elf.EM_AARCH64 {
		const reserved = 16
		return int64(reserved + (block.Vaddr-reserved)&mask + value)
	}
	return int64(value - block.Memsz - (-block.Vaddr-block.Memsz)&mask)
}
