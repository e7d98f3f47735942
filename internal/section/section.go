// SPDX-License-Identifier: Apache-2.0

// Package section reads and replaces the generated part of a document, which is between
// two marker lines.
package section

import (
	"fmt"
	"os"
	"strings"
)

// Section is the part between two lines that name the command which generates it.
type Section struct {
	Command string // such as "make test-matrix"
	// Again is the command that writes it into the document, such as "make test-matrix
	// MATRIXFLAGS=-write".
	Again string
}

// put replaces the section in a document and reports whether it has changed.
func (s Section) put(document, content string) (put string, changed bool, err error) {
	begins, ends := "<!-- "+s.Command+": begin -->", "<!-- "+s.Command+": end -->"
	before, rest, found := strings.Cut(document, begins+"\n")
	old, after, ended := strings.Cut(rest, ends)
	if !found || !ended {
		return "", false, fmt.Errorf("no section: want the lines %q and %q", begins, ends)
	}
	return before + begins + "\n" + content + ends + after, old != content, nil
}

// Check compares the section in a file with content, or writes it there.
func (s Section) Check(file, content string, write bool) error {
	document, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	put, changed, err := s.put(string(document), content)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if !changed {
		return nil
	}
	if !write {
		return fmt.Errorf("%s: what %s wrote there is not what came out: run %s", file, s.Command, s.Again)
	}
	return os.WriteFile(file, []byte(put), 0o644)
}
