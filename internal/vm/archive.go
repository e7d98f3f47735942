// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"io"
)

// Archive writes an initramfs: a cpio archive in the "newc" form. close returns its first error.
//
// Source: Documentation/driver-api/early-userspace/buffer-format.rst.
type Archive struct {
	to    io.Writer
	files int
	err   error
}

// The types of files in the mode of an entry.
const (
	directoryType = 0o040000
	regularType   = 0o100000
)

// Directory adds an empty directory. Its parent must exist.
func (a *Archive) Directory(name string) { a.add(name, directoryType|0o755, nil) }

// File adds a file that anyone may execute. Its parent must exist.
func (a *Archive) File(name string, content []byte) { a.add(name, regularType|0o755, content) }

// close writes the end of the archive, and returns the first error.
func (a *Archive) close() error {
	a.add("TRAILER!!!", 0, nil)
	return a.err
}

func (a *Archive) add(name string, mode int, content []byte) {
	a.files++
	const links = 1
	a.printf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.files, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	// Name and content are each padded to a multiple of four, the name together with the 110
	// bytes before it.
	a.printf("%s\x00%s", name, padding(110+len(name)+1))
	a.printf("%s%s", content, padding(len(content)))
}

func padding(length int) []byte { return make([]byte, -length&3) }

func (a *Archive) printf(format string, arguments ...any) {
	if a.err == nil {
		_, a.err = fmt.Fprintf(a.to, format, arguments...)
	}
}
