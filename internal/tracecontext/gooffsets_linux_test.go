// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"context"
	"debug/dwarf"
	"debug/elf"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// goReleases are minor releases of those in the table, except for the one that runs this test.
var goReleases = []string{"go1.21.13", "go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5", "go1.26.0"}

// TestGoOffsets builds a program with each release, and compares the table with the program's
// DWARF and with the actual address of its label.
func TestGoOffsets(t *testing.T) {
	for _, release := range append([]string{runtime.Version()}, goReleases...) {
		t.Run(release, func(t *testing.T) {
			toolchain := "GOTOOLCHAIN=" + requireGo(t, release)
			path := buildGo(t, "golabels", []string{toolchain, "GOARCH=" + runtime.GOARCH})
			wantOffsets(t, path, release)
			wantLabel(t, path, readLayoutOf(t, path))
			for _, arch := range []string{"amd64", "arm64"} {
				if arch != runtime.GOARCH {
					wantOffsets(t, buildGo(t, "golabels", []string{toolchain, "GOARCH=" + arch}), release)
				}
			}
		})
	}
}

// TestGoPooledNames checks that go_pooled.txt has the names of goroutines as releases before and
// after the change in Go 1.22 form them.
func TestGoPooledNames(t *testing.T) {
	for _, release := range []string{"go1.21.13", "go1.22.12"} {
		t.Run(release, func(t *testing.T) {
			wantPooled(t, buildGo(t, "gopool", []string{"GOTOOLCHAIN=" + requireGo(t, release)}))
		})
	}
}

// TestReadGoLayoutBefore126 reads programs whose table of functions is in the middle of another
// section, and which have no section for the module.
func TestReadGoLayoutBefore126(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skipf("this test links with C: %v", err)
	}
	environment := []string{"CGO_ENABLED=1", "GOTOOLCHAIN=" + requireGo(t, "go1.25.5")}
	for name, flags := range map[string][]string{
		"position-independent": {"-buildmode=pie", "-ldflags=-s -w"},
		"static":               {"-ldflags=-s -w -linkmode external -extldflags -static"},
	} {
		t.Run(name, func(t *testing.T) {
			path := buildGo(t, "golabels", environment, flags...)
			wantLabel(t, path, readLayoutOf(t, path))
		})
	}
}

// requireGo returns the value of GOTOOLCHAIN for a release. It skips the test if the go command
// neither has the release nor can download it soon.
func requireGo(t *testing.T, release string) string {
	t.Helper()
	if release == runtime.Version() {
		return "local"
	}
	if testing.Short() {
		t.Skip("other releases of Go take long")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "version")
	command.Dir = "testdata/golabels"
	command.Env = append(os.Environ(), "GOTOOLCHAIN="+release)
	if output, err := command.CombinedOutput(); err != nil || !strings.Contains(string(output), release+" ") {
		t.Skipf("%s is neither here nor to be downloaded in 20 s: %v: %s", release, err, output)
	}
	return release
}

// wantOffsets compares the layout of a program with its DWARF.
func wantOffsets(t *testing.T, path, release string) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	data, err := file.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	g, m := fieldOffsets(t, data, "runtime.g"), fieldOffsets(t, data, "runtime.m")
	want := goLayout{release: release, m: g["m"], curg: m["curg"], labels: g["labels"], startPC: g["startpc"], entry: file.Entry}
	if file.Machine == elf.EM_X86_64 {
		want.tls = -8
	}
	got := readLayoutOf(t, path)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(goLayout{}), cmpopts.IgnoreFields(goLayout{}, "labelMap", "pooled")); diff != "" {
		t.Errorf("layout for %v differs (-DWARF +got):\n%s", file.Machine, diff)
	}
}

// fieldOffsets returns the offsets of a struct's fields.
func fieldOffsets(t *testing.T, data *dwarf.Data, name string) map[string]uint16 {
	t.Helper()
	entries := data.Reader()
	for {
		entry, err := entries.Next()
		if err != nil || entry == nil {
			t.Fatalf("no type %s in DWARF: %v", name, err)
		}
		if entry.Tag != dwarf.TagStructType || entry.Val(dwarf.AttrName) != name {
			continue
		}
		typ, err := data.Type(entry.Offset)
		if err != nil {
			t.Fatal(err)
		}
		offsets := map[string]uint16{}
		for _, field := range typ.(*dwarf.StructType).Field {
			offsets[field.Name] = uint16(field.ByteOffset)
		}
		return offsets
	}
}
