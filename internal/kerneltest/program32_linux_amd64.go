// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// The headers of an executable are loaded here, and its code is behind them.
const loadAddress = 0x08048000

// The sizes of the headers of a 32-bit and of a 64-bit executable: of the file and of its one segment.
const (
	header32, segment32 = 52, 32
	header64, segment64 = 64, 56
)

// DataAddress32 is where the data of a 32-bit [Program32] are that begins with [WithData].
const DataAddress32 = loadAddress + header32 + segment32 + 5

// Call32 returns code that makes a 32-bit system call, whose result is in eax. The numbers of these
// calls mean other calls in 64 bits.
func Call32(number uint32, arguments ...uint32) []byte {
	move := func(register byte, value uint32) []byte {
		return binary.LittleEndian.AppendUint32([]byte{0xb8 + register}, value)
	}
	code := move(0, number) // eax
	for i, argument := range arguments {
		code = append(code, move([]byte{3, 1, 2, 6, 7, 5}[i], argument)...) // ebx, ecx, edx, esi, edi, ebp
	}
	return append(code, 0xcd, 0x80) // int $0x80
}

// Exit32 is code that ends a program with what is in eax.
var Exit32 = []byte{0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80} // mov %eax, %ebx; mov $1, %eax; int $0x80

// WithData returns code that begins with data, which it jumps over.
func WithData(data, code []byte) []byte {
	jump := binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(len(data)))
	return slices.Concat(jump, data, code)
}

// Program32 returns an executable for 32 or 64 bits. Its code makes 32-bit system calls, which both
// can.
func Program32(bits int, code []byte) []byte {
	le := binary.LittleEndian
	class, machine, header, segment := byte(1), uint16(3), header32, segment32
	if bits == 64 {
		class, machine, header, segment = 2, 62, header64, segment64
	}
	word := func(b []byte, value uint64) []byte {
		if bits == 64 {
			return le.AppendUint64(b, value)
		}
		return le.AppendUint32(b, uint32(value))
	}
	start, size := uint64(header+segment), uint64(header+segment+len(code))

	b := append([]byte{0x7f, 'E', 'L', 'F', class, 1, 1}, make([]byte, 9)...)
	b = le.AppendUint16(le.AppendUint16(b, 2), machine)
	b = le.AppendUint32(b, 1)
	b = word(word(word(b, loadAddress+start), uint64(header)), 0)
	b = le.AppendUint32(b, 0)
	for _, half := range []uint16{uint16(header), uint16(segment), 1, 0, 0, 0} {
		b = le.AppendUint16(b, half)
	}
	const load, readWriteExecute = 1, 7
	b = le.AppendUint32(b, load)
	if bits == 64 {
		b = le.AppendUint32(b, readWriteExecute)
	}
	b = word(word(word(word(word(b, 0), loadAddress), loadAddress), size), size)
	if bits == 32 {
		b = le.AppendUint32(b, readWriteExecute)
	}
	return append(word(b, 0x1000), code...)
}

// WriteProgram writes an executable to a file, and returns its path.
func WriteProgram(t testing.TB, image []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "calls32")
	if err := os.WriteFile(path, image, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Require32Bit skips the test if the kernel has no 32-bit system calls.
func Require32Bit(t testing.TB) {
	t.Helper()
	const exit = 1
	path := WriteProgram(t, Program32(32, Call32(exit, 0)))
	if err := exec.Command(path).Run(); err != nil {
		t.Skipf("this kernel runs no 32-bit programs: %v", err)
	}
}
