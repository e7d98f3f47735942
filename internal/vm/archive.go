// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"io"
)

// Archive writes an initramfs: a cpio archive in the "newc" form. Its errors are
// kept until close.
//
// Source: Documentation/driver-api/early-userspace/buffer-format.rst.
type Archive struct {
	to    io.Writer
	files int
	err   error
}

// Types of file, for the mode of an archive's file.
const (
	directoryType = 0o040000
	regularType   = 0o100000
)

// Directory adds an empty directory. The one that it is in must be there.
func (a *Archive) Directory(name string) { a.add(name, directoryType|0o755, nil) }

// File adds a file, which anyone may execute. The directory that it is in must be there.
func (a *Archive) File(name string, content []byte) { a.add(name, regularType|0o755, content) }

// close writes the end, and returns the first error there was.
func (a *Archive) close() error {
	a.add("TRAILER!!!", 0, nil)
	return a.err
}

func (a *Archive) add(name string, mode int, content []byte) {
	a.files++
	const links = 1
	a.printf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.files, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	// Name and content each end on a multiple of four, the name counted with the 110 bytes before it.
	a.printf("%s\x00%s", name, padding(110+len(name)+1))
	a.printf("%s%s", content, padding(len(content)))
}

func padding(length int) []byte { return make([]byte, -length&3) }

func (a *Archive) printf(format string, arguments ...any) {
	if a.err == nil {
		_, a.err = fmt.Fprintf(a.to, format, arguments...)
	}
}
