package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// exits is a program that does nothing, in machine code: exit(0).
var exits = map[string][]byte{
	"amd64": {0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05},                              // mov eax, 60; xor edi, edi; syscall
	"arm64": {0xa8, 0x0b, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4}, // mov x8, 93; mov x0, 0; svc 0
}

// runNothing runs a program that ends at once. It is in memory, since a container
// may have no other than ours.
func runNothing() error {
	fd, err := unix.MemfdCreate("nothing", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a program in memory: %w", err)
	}
	written := os.NewFile(uintptr(fd), "nothing")
	_, err = written.Write(executable(exits[runtime.GOARCH]))
	program, openErr := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err := errors.Join(err, openErr, written.Close()); err != nil { // what is open for writing does not run
		return fmt.Errorf("write a program in memory: %w", err)
	}
	defer program.Close()
	if err := exec.Command(fmt.Sprintf("/proc/self/fd/%d", program.Fd())).Run(); err != nil {
		return fmt.Errorf("run a program from memory: %w", err)
	}
	return nil
}

// executable is the smallest file that the kernel runs: both headers, and the code.
func executable(code []byte) []byte {
	const base = 0x400000
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	var header elf.Header64
	var program elf.Prog64
	headers := uint64(binary.Size(header) + binary.Size(program))
	size := headers + uint64(len(code))
	header = elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine),
		Version: uint32(elf.EV_CURRENT),
		Entry:   base + headers,
		Phoff:   uint64(binary.Size(header)),
		Ehsize:  uint16(binary.Size(header)), Phentsize: uint16(binary.Size(program)), Phnum: 1,
	}
	program = elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000,
	}
	var file bytes.Buffer
	_ = binary.Write(&file, binary.LittleEndian, &header) // neither fails
	_ = binary.Write(&file, binary.LittleEndian, &program)
	return append(file.Bytes(), code...)
}
