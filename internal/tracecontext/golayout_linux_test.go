// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"

// TestReadGoLayout follows the layout in a running program to its label.
func TestReadGoLayout(t *testing.T) {
	cgo := []string{"CGO_ENABLED=1"}
	for name, test := range map[string]struct {
		environment []string
		flags       []string
	}{
		"default":                            {},
		"stripped":                           {flags: []string{"-ldflags=-s -w"}},
		"position-independent":               {flags: []string{"-buildmode=pie"}},
		"position-independent, stripped":     {flags: []string{"-buildmode=pie", "-ldflags=-s -w"}},
		"C":                                  {environment: cgo},
		"C, stripped":                        {environment: cgo, flags: []string{"-ldflags=-s -w"}},
		"C, position-independent":            {environment: cgo, flags: []string{"-buildmode=pie"}},
		"C, position-independent, stripped":  {environment: cgo, flags: []string{"-buildmode=pie", "-ldflags=-s -w"}},
		"C, static":                          {environment: cgo, flags: []string{"-ldflags=-linkmode external -extldflags -static"}},
		"C, static, stripped":                {environment: cgo, flags: []string{"-ldflags=-s -w -linkmode external -extldflags -static"}},
		"C, static and position-independent": {environment: cgo, flags: []string{"-buildmode=pie", "-ldflags=-s -w -linkmode external -extldflags -static-pie"}},
		"race detector":                      {environment: cgo, flags: []string{"-race"}},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "default" && name != "stripped" {
				t.Skip("other ways to build take long")
			}
			if _, err := exec.LookPath("gcc"); err != nil && test.environment != nil {
				t.Skipf("this test links with C: %v", err)
			}
			path := buildGo(t, "golabels", test.environment, test.flags...)
			layout := readLayoutOf(t, path)
			if layout.release != runtime.Version() {
				t.Errorf("release = %q, want %q", layout.release, runtime.Version())
			}
			wantLabel(t, path, layout)
		})
	}
}

// wantLabel runs golabels, and follows the layout from its thread to the label.
func wantLabel(t *testing.T, path string, layout goLayout) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		return // the first step is in a register
	}
	command := exec.Command(path)
	command.Env = []string{"TRACE_ID=" + traceID}
	pid, lines := start(t, command)
	var pointer uint64
	if _, err := fmt.Sscanf(strings.Join(lines, ""), "%x", &pointer); err != nil {
		t.Fatal(err)
	}
	memory := memoryOf(t, pid)
	var curg uint64
	// until it has returned from its output, the thread may run the scheduler instead of the goroutine
	await(t, "the thread's g is curg of its m", func() bool {
		g := memory.word(pointer + uint64(int64(layout.tls)))
		curg = memory.word(memory.word(g+uint64(layout.m)) + uint64(layout.curg))
		return curg == g
	})
	labels := memory.word(memory.word(curg + uint64(layout.labels)))
	var got [2]string
	if layout.labelMap {
		bucket := memory.word(labels + 16)
		got = [2]string{memory.text(bucket + 8), memory.text(bucket + 8 + 8*16)}
	} else {
		got = [2]string{memory.text(labels), memory.text(labels + 16)}
	}
	if want := [2]string{"trace_id", traceID}; got != want {
		t.Errorf("%+v leads to label %q, want %q", layout, got, want)
	}
}

// processMemory reads memory that a test knows to be mapped.
type processMemory struct {
	t    *testing.T
	file *os.File
}

func memoryOf(t *testing.T, pid int) processMemory {
	t.Helper()
	memory, err := openMemory(processDirectory("/proc", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { memory.Close() })
	return processMemory{t, memory}
}

func (p processMemory) word(address uint64) uint64 {
	p.t.Helper()
	word, err := readWord(p.file, address)
	if err != nil {
		p.t.Fatal(err)
	}
	return word
}

// text returns the Go string whose address and length are at an address.
func (p processMemory) text(address uint64) string {
	p.t.Helper()
	text := make([]byte, min(p.word(address+8), 64))
	if _, err := p.file.ReadAt(text, int64(p.word(address))); err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// TestReadGoLayoutPooled examines all goroutines of a program with connections that wait for the
// next request.
func TestReadGoLayoutPooled(t *testing.T) { wantPooled(t, buildGo(t, "gopool", nil)) }

func wantPooled(t *testing.T, path string) {
	t.Helper()
	layout := readLayoutOf(t, path)
	pid, _ := start(t, exec.Command(path))
	bias, err := loadBias("/proc", pid, layout.entry)
	if err != nil {
		t.Fatal(err)
	}
	functions, allgs := symbols(t, path)
	memory := memoryOf(t, pid)
	goroutines, count := memory.word(bias+allgs), memory.word(bias+allgs+8)
	got := map[string]bool{}
	for i := range count {
		startPC := memory.word(memory.word(goroutines+8*i)+uint64(layout.startPC)) - bias
		if functions[startPC] == "" {
			t.Errorf("a goroutine starts at %#x, where no function does", startPC)
		}
		if slices.Contains(layout.pooled, startPC) {
			got[strings.TrimRight(functions[startPC], "0123456789")] = true
		}
	}
	want := []string{
		"net/http.(*Transport).dialConn.gowrap",
		"net/http.(*http2Transport).newClientConn.gowrap",
	}
	if strings.HasPrefix(layout.release, "go1.21.") {
		for i := range want {
			want[i] = strings.Replace(want[i], "gowrap", "func", 1)
		}
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("pooled goroutines differ (-want +got):\n%s", diff)
	}
}

// symbols returns the names of a program's functions by address, and the address of its slice of
// all goroutines.
func symbols(t *testing.T, path string) (functions map[uint64]string, allgs uint64) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	table, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	functions = map[uint64]string{}
	for _, s := range table {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			functions[s.Value] = s.Name
		}
		if s.Name == "runtime.allgs" {
			allgs = s.Value
		}
	}
	return functions, allgs
}

func TestReadGoLayoutErrors(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("\x7fELF and no more"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/bin/sh", "golayout.go", garbage, os.DevNull} {
		t.Run(path, func(t *testing.T) {
			file, err := os.Open(path)
			if err != nil {
				t.Skip(err)
			}
			defer file.Close()
			if _, err := readGoLayout(file); !errors.Is(err, errNotGo) {
				t.Errorf("readGoLayout() error = %v, want %v", err, errNotGo)
			}
		})
	}
}
