// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"debug/elf"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGoOffsetsOfRelease(t *testing.T) {
	for name, test := range map[string]struct {
		version string
		machine elf.Machine
		want    goLayout
		matches error
	}{
		"labels are a map until 1.23": {
			version: "go1.23.4", machine: elf.EM_X86_64,
			want: goLayout{release: "go1.23.4", m: 48, curg: 192, labels: 352, startPC: 304, labelMap: true},
		},
		"a minor release that is newer than the table": {
			version: "go1.26.99", machine: elf.EM_AARCH64,
			want: goLayout{release: "go1.26.99", m: 48, curg: 184, labels: 352, startPC: 304},
		},
		"older than the table":  {version: "go1.20.14", machine: elf.EM_X86_64, matches: errUnknownRelease},
		"newer than the table":  {version: "go1.99.0", machine: elf.EM_X86_64, matches: errUnknownRelease},
		"a candidate":           {version: "go1.26rc1", machine: elf.EM_X86_64, matches: errUnknownRelease},
		"a development version": {version: "devel go1.26-5f6e2c1 Mon", machine: elf.EM_X86_64, matches: errUnknownRelease},
		"an experiment":         {version: "go1.26.1 X:arenas", machine: elf.EM_X86_64, matches: errUnknownRelease},
		"nothing":               {machine: elf.EM_X86_64, matches: errUnknownRelease},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := goOffsets(test.version, test.machine)
			if !errors.Is(err, test.matches) {
				t.Fatalf("goOffsets(%q) error = %v, want %v", test.version, err, test.matches)
			}
			if err != nil && !strings.Contains(err.Error(), test.version) {
				t.Errorf("%q does not name %q", err, test.version)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(goLayout{})); diff != "" {
				t.Errorf("goOffsets(%q) differs (-want +got):\n%s", test.version, diff)
			}
		})
	}
}

// TestGoOffsetsErrorIsSafeToLog has a program whose release is what its user wants the log to say.
func TestGoOffsetsErrorIsSafeToLog(t *testing.T) {
	_, err := goOffsets("go1.99\x1b[2J\nforged\xff"+strings.Repeat("x", 1<<20), elf.EM_X86_64)
	want := errUnknownRelease.Error() + ": go1.99\uFFFD[2J forged\uFFFD" + strings.Repeat("x", 100-len("go1.99.[2J forged.")) + " for amd64"
	if err == nil || err.Error() != want {
		t.Errorf("the error is %.200q, want %q", fmt.Sprint(err), want)
	}
}

func TestParseGoOffsetsErrors(t *testing.T) {
	for name, table := range map[string]string{
		"nothing":               "",
		"too few columns":       "release,arch\ngo1.26,amd64\n",
		"a line that is longer": "a,b,c,d,e,f,g\ngo1.26,amd64,48,184,352,304,slice,1\n",
		"an offset too large":   "a,b,c,d,e,f,g\ngo1.26,amd64,48,184,352,65536,slice\n",
	} {
		t.Run(name, func(t *testing.T) {
			if layouts, err := parseGoOffsets(table); err == nil {
				t.Errorf("parseGoOffsets() = %v, want an error", layouts)
			}
		})
	}
}
