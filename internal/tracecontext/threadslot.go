// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

var errNoThreadContext = errors.New("no " + threadVariableName + " in the program or its libraries")

// threadSlot is where each thread of a process keeps its pointer to the context of OTEP 4947. The
// pointer is NULL while there is none.
//
// If module is 0 the slot is at thread pointer + offset. Otherwise it is in the thread's block of
// a library, at block(module) + offset, and a thread gets that block when it first uses it. Entry
// number module of the dynamic thread vector has the address of the block, or -1 before. The
// address of the vector is at thread pointer + 8 on x86-64; on arm64 it is at the thread pointer,
// and with musl at thread pointer - 8. Entry number -1 of glibc's vector is the number of entries.
// It may be below module while the library is new to the thread.
//
// Source: dtv_t in glibc's sysdeps/generic/dl-dtv.h; struct pthread in musl's
// src/internal/pthread_impl.h.
type threadSlot struct {
	offset      int64
	module      uint64 // 0 at a fixed offset from the thread pointer
	muslEntries bool   // the vector's entries have 8 bytes, while glibc's have 16
}

// findThreadSlot finds the slot of a process. The error matches errNoThreadContext if neither the
// program nor a loaded library has the variable. process is its directory in /proc, mappings are
// its mappings, and cache remembers files between processes.
//
// Other errors are about a process that has ended, or about a library that the loader has not
// linked yet, for which a later call may succeed.
//
// Source: oteps/profiles/4947-thread-ctx.md in
// open-telemetry/opentelemetry-specification; TLS descriptors in glibc's
// sysdeps/x86_64/dl-machine.h and sysdeps/aarch64/dl-machine.h.
func findThreadSlot(process string, mappings []mapping, cache *elfCache) (threadSlot, error) {
	variable, code, err := findMappedVariable(process, mappings, cache)
	if err != nil {
		return threadSlot{}, err
	}
	entry, err := readEntry(process)
	if err != nil {
		return threadSlot{}, fmt.Errorf("read entry point: %w", err)
	}
	if code.start <= entry && entry < code.end {
		return threadSlot{offset: variable.fixed}, nil
	}
	memory, err := openMemory(process)
	if err != nil {
		return threadSlot{}, err
	}
	defer memory.Close()
	slot, err := variable.slot(memory, variable.bias(code))
	if err != nil {
		return threadSlot{}, fmt.Errorf("find %s of %s: %w", threadVariableName, code.path, err)
	}
	slot.muslEntries = slot.module != 0 && usesMusl(process, mappings)
	return slot, nil
}

// findMappedVariable returns the variable of the first file that has it, and where the code of the
// file is mapped. The kernel maps a program at a lower address than its libraries.
func findMappedVariable(process string, mappings []mapping, cache *elfCache) (*threadVariable, mapping, error) {
	type file struct {
		device string
		inode  uint64
	}
	seen := map[file]bool{}
	var unread error
	for _, m := range mappings {
		id := file{m.device, m.inode}
		if !m.executable || m.inode == 0 || seen[id] {
			continue
		}
		seen[id] = true
		variable, err := cache.read(process, m)
		if err != nil {
			unread = fmt.Errorf("%s: %w", m.path, err)
		}
		if variable != nil {
			return variable, m, nil
		}
	}
	if unread != nil {
		return nil, mapping{}, fmt.Errorf("%w that can be read: %w", errNoThreadContext, unread)
	}
	return nil, mapping{}, errNoThreadContext
}

// bias returns the difference between the address at which a library was loaded and the one for
// which it was linked. code is the mapping of its executable segment.
func (v *threadVariable) bias(code mapping) uint64 {
	return code.start - code.offset - (v.codeAddress - v.codeOffset)
}

// slot reads from the memory of a process where its loader has put the variable of a library. bias
// is that of the library.
func (v *threadVariable) slot(memory io.ReaderAt, bias uint64) (threadSlot, error) {
	err := errors.New("nothing in the library refers to it")
	for _, r := range v.references {
		var slot threadSlot
		switch address := bias + r.address; r.kind {
		case fromThreadPointer:
			slot, err = v.readOffset(memory, address)
		case descriptor:
			slot, err = v.readDescriptor(memory, address)
		case moduleNumber:
			slot, err = v.readModule(memory, address)
		}
		if err == nil {
			return slot, nil
		}
	}
	return threadSlot{}, err
}

func (v *threadVariable) readOffset(memory io.ReaderAt, address uint64) (threadSlot, error) {
	offset, err := readWord(memory, address)
	if err == nil && !v.isStatic(offset) {
		err = errNotLinked
	}
	return threadSlot{offset: int64(offset)}, err
}

// readDescriptor reads the argument of a TLS descriptor's function, which is an offset from the
// thread pointer or the address of {module, offset}.
func (v *threadVariable) readDescriptor(memory io.ReaderAt, address uint64) (threadSlot, error) {
	argument, err := readWord(memory, address+8)
	if err != nil {
		return threadSlot{}, err
	}
	if v.isStatic(argument) {
		return threadSlot{offset: int64(argument)}, nil
	}
	slot, err := v.readModule(memory, argument)
	if err != nil {
		return threadSlot{}, err
	}
	// A loader that links on first use has another value there before.
	offset, err := readWord(memory, argument+8)
	if err == nil && offset != v.value {
		err = errNotLinked
	}
	return slot, err
}

func (v *threadVariable) readModule(memory io.ReaderAt, address uint64) (threadSlot, error) {
	module, err := readWord(memory, address)
	if err == nil && (module == 0 || module > maxModule) {
		err = errNotLinked
	}
	return threadSlot{offset: int64(v.value), module: module}, err
}

var errNotLinked = errors.New("the library is not linked yet")

const (
	maxModule = 1 << 16 // libraries with thread-local variables in one process
	// maxStatic is how many bytes of thread-local variables there may be around the thread
	// pointer. No program is mapped at a lower address.
	maxStatic = 1 << 22
)

// isStatic reports whether a word is an offset from the thread pointer: it is
// negative on x86-64 and positive on arm64, and never 0.
func (v *threadVariable) isStatic(word uint64) bool {
	offset := int64(word)
	if v.machine == elf.EM_AARCH64 {
		return 0 < offset && offset < maxStatic
	}
	return -maxStatic < offset && offset < 0
}

// usesMusl reports whether musl's loader started a process. The mapped file may have another name:
// it is that of the loader on Alpine, and libc.so on Debian.
func usesMusl(process string, mappings []mapping) bool {
	return slices.ContainsFunc(mappings, func(m mapping) bool { return isMuslLoader(m.path) }) ||
		isMuslLoader(interpreterOf(process))
}

func isMuslLoader(file string) bool { return strings.HasPrefix(path.Base(file), "ld-musl-") }

// interpreterOf returns the loader that a process's program names, or "" if it names none.
func interpreterOf(process string) string {
	const maxPath = 4096
	file, err := os.Open(filepath.Join(process, "exe"))
	if err != nil {
		return ""
	}
	defer file.Close()
	f, err := openELF(file)
	if err != nil {
		return ""
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz <= maxPath {
			name, _ := io.ReadAll(p.Open())
			return strings.TrimRight(string(name), "\x00")
		}
	}
	return ""
}
