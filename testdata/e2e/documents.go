// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented is a block of code in a document.
type documented struct {
	file     string // from the root of the repository
	language string // such as "yaml"; "" if the block is indented
	text     string
}

// documents returns all documents for people, by their paths from the root of the repository. The
// change log is not one, since it tells what was.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "receiver/*.md"} {
		paths, err := fs.Glob(os.DirFS("../.."), pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(filepath.Join("../..", path))
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
	}
	delete(texts, "CHANGELOG.md")
	if len(texts) < 15 {
		t.Fatalf("there are only %d documents", len(texts))
	}
	return texts
}

// blocks returns the blocks of code of a document. A block is between two fences, or its lines begin with
// four spaces.
func blocks(file, text string) (all []documented) {
	fenced, indented := false, false
	for line := range strings.Lines(text) {
		switch language, fence := strings.CutPrefix(line, "```"); {
		case fence && !fenced:
			fenced = true
			all = append(all, documented{file: file, language: strings.TrimSpace(language)})
		case fence:
			fenced = false
		case fenced:
			all[len(all)-1].text += line
		case strings.HasPrefix(line, "    "):
			if !indented {
				all = append(all, documented{file: file})
			}
			indented = true
			all[len(all)-1].text += line[4:]
			continue
		}
		indented = false
	}
	return all
}

// span matches a code span, such as `make test`. It may go on in the next line.
var span = regexp.MustCompile("`([^`\n]+(?:\n[^`\n]+)?)`")

// spans returns what stands between backquotes in the text of a document, outside of blocks.
func spans(text string) (all []string) {
	text = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
	for _, words := range span.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Join(strings.Fields(words[1]), " "))
	}
	return all
}

var (
	continued = regexp.MustCompile(` *\\\n *`)
	remark    = regexp.MustCompile(`(?m)[ \t]+#.*$`)
)

// commandsOf returns the commands of a block, each on one line and without remarks.
func commandsOf(block string) []string {
	lines := strings.Split(remark.ReplaceAllString(continued.ReplaceAllString(block, " "), ""), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return line == "" })
}
