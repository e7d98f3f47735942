// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFixedOffset(t *testing.T) {
	for name, test := range map[string]struct {
		machine elf.Machine
		block   elf.ProgHeader
		value   uint64
		want    int64
	}{
		"x86-64: the block ends at the thread pointer": {elf.EM_X86_64, elf.ProgHeader{Vaddr: 0x3de0, Memsz: 16, Align: 8}, 8, -8},
		"x86-64: rounded up":                           {elf.EM_X86_64, elf.ProgHeader{Vaddr: 0x3dc0, Memsz: 0x48, Align: 64}, 0x40, -0x40},
		"x86-64: no alignment":                         {elf.EM_X86_64, elf.ProgHeader{Vaddr: 0x3de0, Memsz: 16}, 0, -16},
		"arm64: behind two words":                      {elf.EM_AARCH64, elf.ProgHeader{Vaddr: 0x1fde0, Memsz: 16, Align: 8}, 8, 24},
		"arm64: rounded up":                            {elf.EM_AARCH64, elf.ProgHeader{Vaddr: 0x1fdc0, Memsz: 0x48, Align: 64}, 8, 72},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fixedOffset(test.machine, test.block, test.value); got != test.want {
				t.Errorf("fixedOffset() = %d, want %d", got, test.want)
			}
		})
	}
}

func TestReadThreadVariable(t *testing.T) {
	for file, want := range map[string]*threadVariable{
		"testdata/thread/amd64.so": {
			machine: elf.EM_X86_64, fixed: -8,
			references: []reference{{moduleNumber, 0x13c0}},
		},
		"testdata/thread/arm64.so": {
			machine: elf.EM_AARCH64, fixed: 16,
			references: []reference{{descriptor, 0x13f0}},
		},
		"testdata/thread/main.c": nil,
	} {
		t.Run(file, func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readThreadVariable(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(threadVariable{}, reference{})); diff != "" {
				t.Errorf("readThreadVariable() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefersTo(t *testing.T) {
	const index, value = 5, 0x40
	for name, test := range map[string]struct {
		kind   referenceKind
		symbol uint32
		addend int64
		want   bool
	}{
		"by its symbol":                     {descriptor, index, 0, true},
		"another symbol":                    {descriptor, index + 1, value, false},
		"by its value":                      {descriptor, 0, value, true},
		"another value":                     {fromThreadPointer, 0, value + 8, false},
		"to the library, which is the same": {moduleNumber, 0, 0, true},
		"another's module":                  {moduleNumber, index + 1, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			relocation := elf.Rela64{Info: elf.R_INFO(test.symbol, 0), Addend: test.addend}
			if got := refersTo(test.kind, relocation, index, value); got != test.want {
				t.Errorf("refersTo() = %v, want %v", got, test.want)
			}
		})
	}
}

// words is the memory of a process that consists of words, by address.
type words map[int64]uint64

func (w words) ReadAt(content []byte, at int64) (int, error) {
	word, ok := w[at]
	if !ok {
		return 0, io.EOF
	}
	return binary.Encode(content, binary.LittleEndian, word)
}

func TestSlot(t *testing.T) {
	const bias, variable = 0x7f0000000000, 0x40
	minus := func(offset int64) uint64 { return uint64(-offset) }
	for name, test := range map[string]struct {
		machine    elf.Machine
		references []reference
		memory     words
		want       threadSlot
		matches    error
	}{
		"x86-64: initial exec": {
			machine: elf.EM_X86_64, references: []reference{{fromThreadPointer, 0x3000}},
			memory: words{bias + 0x3000: minus(0x80)}, want: threadSlot{offset: -0x80},
		},
		"x86-64: descriptor at a fixed offset": {
			machine: elf.EM_X86_64, references: []reference{{descriptor, 0x3000}},
			memory: words{bias + 0x3008: minus(0x80)}, want: threadSlot{offset: -0x80},
		},
		"arm64: initial exec": {
			machine: elf.EM_AARCH64, references: []reference{{fromThreadPointer, 0x3000}},
			memory: words{bias + 0x3000: 0x80}, want: threadSlot{offset: 0x80},
		},
		"arm64: descriptor at a fixed offset": {
			machine: elf.EM_AARCH64, references: []reference{{descriptor, 0x3000}},
			memory: words{bias + 0x3008: 0x80}, want: threadSlot{offset: 0x80},
		},
		"arm64: descriptor in a block": {
			machine: elf.EM_AARCH64, references: []reference{{descriptor, 0x3000}},
			memory: words{bias + 0x3008: 0x5500001000, 0x5500001000: 3, 0x5500001008: variable},
			want:   threadSlot{offset: variable, module: 3},
		},
		"general dynamic": {
			machine: elf.EM_AARCH64, references: []reference{{moduleNumber, 0x3000}},
			memory: words{bias + 0x3000: 2}, want: threadSlot{offset: variable, module: 2},
		},
		"the reference that is linked": {
			machine: elf.EM_X86_64, references: []reference{{fromThreadPointer, 0x3000}, {moduleNumber, 0x3010}},
			memory: words{bias + 0x3000: 0, bias + 0x3010: 2}, want: threadSlot{offset: variable, module: 2},
		},
		"no library is linked yet": {
			machine: elf.EM_X86_64, references: []reference{{moduleNumber, 0x3000}},
			memory: words{bias + 0x3000: 0}, matches: errNotLinked,
		},
		"a descriptor that is not linked yet": {
			machine: elf.EM_X86_64, references: []reference{{descriptor, 0x3000}},
			memory: words{bias + 0x3008: bias + 0x500, bias + 0x500: 0x3000, bias + 0x508: 36}, matches: errNotLinked,
		},
		"memory that cannot be read": {
			machine: elf.EM_X86_64, references: []reference{{descriptor, 0x3000}}, matches: io.EOF,
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := threadVariable{machine: test.machine, value: variable, references: test.references}
			got, err := v.slot(test.memory, bias)
			if got != test.want || !errors.Is(err, test.matches) {
				t.Errorf("slot() = %+v, %v, want %+v, %v", got, err, test.want, test.matches)
			}
		})
	}
	if slot, err := (&threadVariable{}).slot(words{}, bias); err == nil {
		t.Errorf("slot() without references = %+v, want an error", slot)
	}
}

func TestUsesMusl(t *testing.T) {
	for path, want := range map[string]bool{
		"/lib/ld-musl-x86_64.so.1":          true,
		"/usr/lib/x86_64-linux-gnu/libc.so": false,
	} {
		if got := usesMusl("/nowhere", []mapping{{path: "[heap]"}, {path: path}}); got != want {
			t.Errorf("usesMusl(%q) = %v, want %v", path, got, want)
		}
	}
}

func FuzzReadThreadVariable(f *testing.F) {
	for _, name := range []string{"testdata/thread/amd64.so", "testdata/thread/arm64.so"} {
		file, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		variable, err := readThreadVariable(bytes.NewReader(file))
		if err == nil && variable != nil && len(variable.references) > len(file)/24 {
			t.Errorf("readThreadVariable() = %+v", variable)
		}
		if layout, err := readGoLayout(bytes.NewReader(file)); err == nil {
			t.Errorf("readGoLayout() = %+v", layout)
		}
	})
}
