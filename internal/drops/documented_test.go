// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var writeReasons = flag.Bool("write-reasons", false, "rewrite docs/drop_reasons.md")

const reasonsHead = `<!-- Written by make generate, from internal/drops/reasons.csv: change that. -->

# What drops mean

What each drop reason means, and what to do about it. Where a row has a function, it goes before the row of the reason alone.
[drops.md](drops.md#class) says what the classes are.

| reason | function | class | what it means | what to do |
| --- | --- | --- | --- | --- |
`

// TestReasonsAreDocumented compares docs/drop_reasons.md with the table from which it is generated.
func TestReasonsAreDocumented(t *testing.T) {
	const path = "../../docs/drop_reasons.md"
	rows, err := readTable(reasonsCSV)
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	page.WriteString(reasonsHead)
	for _, row := range rows {
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s |\n",
			cmp.Or(quoted(row[0]), "any"), quoted(row[1]), row[2], capital(row[3]), strings.ReplaceAll(row[4], "|", "\\|"))
	}
	if *writeReasons {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.ReadFile(path); err != nil || string(is) != page.String() {
		t.Errorf("%s is not what internal/drops/reasons.csv says (%v): run make generate", path, err)
	}
}

// quoted returns a name formatted as code, unless it is a description such as "(no name)".
func quoted(name string) string {
	if name == "" || strings.HasPrefix(name, "(") {
		return name
	}
	return "`" + name + "`"
}
