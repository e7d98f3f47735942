// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// tlsOffset returns where a thread keeps the pointer to its g on x86-64, relative to the thread
// pointer: -8 unless the program is linked statically with C code. The first instructions of
// runtime.stackcheck contain it, also in a stripped program.
//
// The result is an error if the instructions are others, for example because only the loader knows
// the offset. It is never guessed, since a wrong offset would read the wrong memory.
//
// Source: runtime·stackcheck in src/runtime/asm_amd64.s; get_tls in go_tls.h.
func (g *goFunctions) tlsOffset(f *elf.File) (int32, error) {
	for entry, name := range g.all() {
		if !bytes.HasPrefix(name, []byte("runtime.stackcheck\x00")) {
			continue
		}
		var code [15]byte
		if err := readMemory(f, entry, code[:]); err != nil {
			return 0, fmt.Errorf("read runtime.stackcheck: %w", err)
		}
		return decodeStackcheck(code)
	}
	return 0, errors.New("the program has no function runtime.stackcheck")
}

// decodeStackcheck decodes either form of runtime.stackcheck:
//
//	64 48 8b 04 25 OFFSET   mov %fs:OFFSET,%rax      at a fixed address
//
//	48 c7 c1 OFFSET         mov $OFFSET,%rcx         position-independent
//	64 48 8b 01             mov %fs:(%rcx),%rax
//
// After either form comes cmp %rsp,0x8(%rax), which shows that rax is a g.
func decodeStackcheck(code [15]byte) (int32, error) {
	compare := []byte{0x48, 0x39, 0x60, 0x08}
	var offset []byte
	switch {
	case bytes.HasPrefix(code[:], []byte{0x64, 0x48, 0x8b, 0x04, 0x25}) && bytes.HasPrefix(code[9:], compare):
		offset = code[5:9]
	case bytes.HasPrefix(code[:], []byte{0x48, 0xc7, 0xc1}) &&
		bytes.HasPrefix(code[7:], append([]byte{0x64, 0x48, 0x8b, 0x01}, compare...)):
		offset = code[3:7]
	default:
		return 0, fmt.Errorf("instructions of runtime.stackcheck are unknown: % x", code)
	}
	tls := int32(binary.LittleEndian.Uint32(offset))
	if tls >= 0 || tls%8 != 0 {
		return 0, fmt.Errorf("runtime.stackcheck says that g is %d bytes from the thread pointer", tls)
	}
	return tls, nil
}
