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

// processDirectory returns the directory of a process in proc, which is /proc.
func processDirectory(proc string, pid int) string { return filepath.Join(proc, strconv.Itoa(pid)) }

// openMemory opens the memory of a process, in which an offset is an address. Reading it needs the
// same privileges as ptrace, and takes as long as the process wishes if it serves the page itself
// (userfaultfd, FUSE).
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

// loadBias returns the difference between the address at which the program of a process was loaded
// and the one for which it was linked, which is 0 if the address is fixed. entry is the program's
// entry point as linked.
//
// There is an error if the process runs another program than entry belongs to, as far as this can
// be seen: the difference is not a multiple of the page size.
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
