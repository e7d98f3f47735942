// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestOpenELF(t *testing.T) {
	whole, err := os.ReadFile("testdata/thread/amd64.so")
	if err != nil {
		t.Fatal(err)
	}
	sections := binary.LittleEndian.Uint64(whole[40:])
	names := sections + 64*uint64(binary.LittleEndian.Uint16(whole[62:]))
	for name, test := range map[string]struct {
		change  func(file []byte)
		problem string
	}{
		"whole":              {change: func([]byte) {}},
		"no sections":        {change: func(f []byte) { clear(f[40:48]); clear(f[60:64]) }},
		"32 bits":            {func(f []byte) { f[elf.EI_CLASS] = byte(elf.ELFCLASS32) }, "not an ELF file for"},
		"big-endian":         {func(f []byte) { f[elf.EI_DATA] = byte(elf.ELFDATA2MSB) }, "not an ELF file for"},
		"another machine":    {func(f []byte) { f[18] = byte(elf.EM_RISCV) }, "not an ELF file for"},
		"another file":       {func(f []byte) { f[0] = 0 }, "not an ELF file for"},
		"compressed names":   {func(f []byte) { f[names+9] |= byte(elf.SHF_COMPRESSED >> 8) }, "are compressed"},
		"names without end":  {func(f []byte) { f[names+37] = 1 }, "or too many"},
		"sections elsewhere": {func(f []byte) { f[47] = 0xff }, "read names of ELF sections"},
	} {
		t.Run(name, func(t *testing.T) {
			file := bytes.Clone(whole)
			test.change(file)
			_, err := openELF(bytes.NewReader(file))
			if test.problem == "" && err != nil || test.problem != "" && !strings.Contains(fmt.Sprint(err), test.problem) {
				t.Errorf("openELF() error = %v, want %q", err, test.problem)
			}
		})
	}
}

func TestCheckSection(t *testing.T) {
	for name, test := range map[string]struct {
		section elf.SectionHeader
		ok      bool
	}{
		"in the file": {section: elf.SectionHeader{Type: elf.SHT_PROGBITS, FileSize: 1}, ok: true},
		"zeros":       {section: elf.SectionHeader{Type: elf.SHT_NOBITS, FileSize: 1}},
		"compressed":  {section: elf.SectionHeader{Type: elf.SHT_PROGBITS, FileSize: 1, Flags: elf.SHF_COMPRESSED}},
		"too large":   {section: elf.SectionHeader{Type: elf.SHT_PROGBITS, FileSize: maxSection + 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkSection(&elf.Section{SectionHeader: test.section}); (err == nil) != test.ok {
				t.Errorf("checkSection() = %v", err)
			}
		})
	}
}
