// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// processDirectory is where proc, which is /proc, describes a process.
func processDirectory(proc string, pid int) string { return filepath.Join(proc, strconv.Itoa(pid)) }

// openMemory opens a process's memory: an offset in it is an address. Reading it
// takes what ptrace takes, and can last as long as the process wants if it
// serves the page itself (userfaultfd, FUSE).
func openMemory(process string) (*os.File, error) { return os.Open(filepath.Join(process, "mem")) }

func readWord(memory io.ReaderAt, address uint64) (uint64, error) {
	var word [8]byte
	if _, err := memory.ReadAt(word[:], int64(address)); err != nil {
		return 0, fmt.Errorf("read memory at %#x: %w", address, err)
	}
	return binary.LittleEndian.Uint64(word[:]), nil
}

const auxvEntry = 9 // AT_ENTRY in include/uapi/linux/auxvec.h

// readEntry returns the address of a process's entry point.
func readEntry(process string) (uint64, error) {
	auxv, err := os.ReadFile(filepath.Join(process, "auxv"))
	if err != nil {
		return 0, err
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == auxvEntry {
			return binary.LittleEndian.Uint64(auxv[8:]), nil
		}
	}
	return 0, errors.New("auxv has no entry point")
}

// loadBias returns how far from where it was linked a process's program was
// loaded, 0 at a fixed address. Entry is the program's entry point as linked.
//
// There is an error when the process runs another program than entry is from, as
// far as that can be seen: the difference is not a number of pages.
func loadBias(proc string, pid int, entry uint64) (uint64, error) {
	const page = 4096 // or a multiple of it
	loaded, err := readEntry(processDirectory(proc, pid))
	if err != nil {
		return 0, fmt.Errorf("read entry point: %w", err)
	}
	if loaded < entry || (loaded-entry)%page != 0 {
		return 0, fmt.Errorf("process %d has its entry point at %#x, which is not that of the program, %#x", pid, loaded, entry)
	}
	return loaded - entry, nil
}
