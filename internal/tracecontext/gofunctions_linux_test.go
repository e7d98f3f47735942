// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGoFunctions compares the functions of this test with what debug/gosym reads.
func TestGoFunctions(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	functions, err := readGoFunctions(file)
	if err != nil {
		t.Fatal(err)
	}
	content, _, err := findGoFunctions(file)
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(content, functions.text))
	if err != nil {
		t.Fatal(err)
	}
	type function struct {
		Entry uint64
		Name  string
	}
	var want, got []function
	for _, f := range table.Funcs {
		want = append(want, function{f.Entry, f.Name})
	}
	for entry, name := range functions.all() {
		name, _, _ = bytes.Cut(name, []byte{0})
		got = append(got, function{entry, string(name)})
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("functions differ (-gosym +got):\n%s", diff)
	}
}
