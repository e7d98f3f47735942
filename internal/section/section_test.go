// SPDX-License-Identifier: Apache-2.0

package section

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	s := Section{Command: "make it", Again: "make it again"}
	const before, after = "# kernels\n<!-- make it: begin -->\n", "<!-- make it: end -->\nthe end\n"
	read := func() string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if err := os.WriteFile(file, []byte(before+"| old |\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
	table := "| new |\n"
	if err := s.Check(file, table, false); err == nil {
		t.Error("an old table is not noticed")
	}
	if err := s.Check(file, table, true); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before+table+after, read()); diff != "" {
		t.Errorf("the file differs (-want +got):\n%s", diff)
	}
	if err := s.Check(file, table, false); err != nil {
		t.Errorf("the table is right, but: %v", err)
	}
	if err := os.WriteFile(file, []byte("# nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(file, table, true); err == nil {
		t.Error("a file without a place for the table is not noticed")
	}
}
