// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"
)

// maxSection is the size of the largest section of a program that is read, in bytes. For example,
// the table of functions in a component of Kubernetes has 30 MB.
const maxSection = 128 << 20

// openELF reads the headers of a program or library: 64 bits, little-endian, for
// x86-64 or arm64.
//
// Anyone may run such a file, so it is not trusted. Package debug/elf unpacks compressed sections,
// by which a small file could fill all memory. Such sections are refused here for the names of
// sections, and in sectionData for others.
func openELF(r io.ReaderAt) (*elf.File, error) {
	var header elf.Header64
	if err := readStruct(r, 0, &header); err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	machine := elf.Machine(header.Machine)
	if string(header.Ident[:4]) != elf.ELFMAG ||
		elf.Class(header.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(header.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB ||
		machine != elf.EM_X86_64 && machine != elf.EM_AARCH64 {
		return nil, errors.New("not an ELF file for x86-64 or arm64")
	}
	if header.Shoff != 0 {
		var names elf.Section64
		at := int64(header.Shoff) + int64(header.Shstrndx)*int64(unsafe.Sizeof(names))
		if err := readStruct(r, at, &names); err != nil {
			return nil, fmt.Errorf("read names of ELF sections: %w", err)
		}
		if names.Flags&uint64(elf.SHF_COMPRESSED) != 0 || names.Size > maxSection {
			return nil, errors.New("names of ELF sections are compressed, or too many")
		}
	}
	return elf.NewFile(r)
}

func readStruct(r io.ReaderAt, at int64, value any) error {
	content := make([]byte, binary.Size(value))
	if _, err := r.ReadAt(content, at); err != nil {
		return err
	}
	return binary.Read(bytes.NewReader(content), binary.LittleEndian, value)
}

// sectionData returns the content of a section, which must be in the file.
func sectionData(s *elf.Section) ([]byte, error) {
	if err := checkSection(s); err != nil {
		return nil, err
	}
	content := make([]byte, s.FileSize)
	_, err := s.ReadAt(content, 0)
	return content, err
}

func checkSection(s *elf.Section) error {
	if s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_COMPRESSED != 0 || s.FileSize > maxSection {
		return fmt.Errorf("section %s is empty, compressed or too large", s.Name)
	}
	return nil
}

// readMemory reads the content of an address, as linked, at the start of the program.
func readMemory(f *elf.File, address uint64, content []byte) error {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Vaddr <= address && address-p.Vaddr < p.Filesz {
			_, err := p.ReadAt(content, int64(address-p.Vaddr))
			return err
		}
	}
	return fmt.Errorf("no content at %#x", address)
}

// relocations calls each with every relocation that the loader performs for the program, until
// each returns false.
func relocations(f *elf.File, each func(elf.Rela64) bool) error {
	for _, s := range f.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 { //nolint:misspell // the name in the ELF specification
			continue
		}
		content, err := sectionData(s)
		if err != nil {
			return err
		}
		for ; len(content) >= 24; content = content[24:] {
			if !each(elf.Rela64{
				Off:    binary.LittleEndian.Uint64(content),
				Info:   binary.LittleEndian.Uint64(content[8:]),
				Addend: int64(binary.LittleEndian.Uint64(content[16:])),
			}) {
				return nil
			}
		}
	}
	return nil
}

// readPointer returns the address, as linked, that the pointer at an address has when the program
// starts. In a program that can be loaded at any address it is in a relocation, and the pointer
// itself is 0.
func readPointer(f *elf.File, address uint64) (uint64, error) {
	relative := uint32(elf.R_X86_64_RELATIVE)
	if f.Machine == elf.EM_AARCH64 {
		relative = uint32(elf.R_AARCH64_RELATIVE)
	}
	var target uint64
	found := false
	err := relocations(f, func(r elf.Rela64) bool {
		if found = r.Off == address && elf.R_TYPE64(r.Info) == relative; found {
			target = uint64(r.Addend)
		}
		return !found
	})
	if err != nil || found {
		return target, err
	}
	var content [8]byte
	err = readMemory(f, address, content[:])
	return binary.LittleEndian.Uint64(content[:]), err
}
