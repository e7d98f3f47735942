// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const deleted = " (deleted)" // suffix of the path of a file that was removed

// mapping is a range of a process's memory, and what is mapped there.
type mapping struct {
	start, end uint64
	offset     uint64 // of start in the file
	executable bool
	device     string // of the file: "fe:00"
	inode      uint64 // of the file; 0 without one
	// if there is no file it is empty, or a name such as "[stack]"; it ends in deleted if the
	// file was removed
	path string
}

// readMaps returns the mappings of a process, by address. Package procfs can do this too, but does
// not compile it for Windows, and changes paths with spaces.
func readMaps(process string) ([]mapping, error) {
	file, err := os.Open(filepath.Join(process, "maps"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseMaps(file)
}

// parseMaps reads mappings from text in the form of /proc/PID/maps.
//
// Source: show_map_vma in fs/proc/task_mmu.c.
func parseMaps(r io.Reader) ([]mapping, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	text := string(content)
	mappings := make([]mapping, 0, strings.Count(text, "\n")+1)
	for line := range strings.Lines(text) {
		m, err := parseMapping(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("read mapping %q: %w", line, err)
		}
		mappings = append(mappings, m)
	}
	return mappings, nil
}

// parseMapping splits a line: "7f1dbe6f4000-7f1dbe84a000 r-xp 00026000 fe:00 2623
// /usr/lib/libc.so.6", with more spaces before the path.
func parseMapping(line string) (m mapping, err error) {
	addresses, rest, _ := strings.Cut(line, " ")
	permissions, rest, _ := strings.Cut(rest, " ")
	offset, rest, _ := strings.Cut(rest, " ")
	device, rest, _ := strings.Cut(rest, " ")
	inode, path, _ := strings.Cut(rest, " ")
	start, end, _ := strings.Cut(addresses, "-")

	m.executable = strings.Contains(permissions, "x")
	m.device = device
	m.path = strings.TrimLeft(path, " ")
	var errs [4]error
	m.start, errs[0] = strconv.ParseUint(start, 16, 64)
	m.end, errs[1] = strconv.ParseUint(end, 16, 64)
	m.offset, errs[2] = strconv.ParseUint(offset, 16, 64)
	m.inode, errs[3] = strconv.ParseUint(inode, 10, 64)
	return m, cmp.Or(errs[:]...)
}
