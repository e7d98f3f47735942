// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

const (
	mainSource   = "testdata/thread/main.c"
	threadSource = "testdata/thread/thread.c"
)

// TestFindThreadSlot compares the slot with the address that the program itself
// prints, for two of its threads.
func TestFindThreadSlot(t *testing.T) {
	host := build(t, "host", "gcc", mainSource, "-pthread")
	for name, test := range map[string]struct {
		program []string // compiler flags; empty for a library
		library []string
		load    bool // the library is loaded while the program runs
		dynamic bool // the slot is in the block of a module
	}{
		"in a program":                              {program: []string{"-rdynamic", "-no-pie"}},
		"in a position-independent program":         {program: []string{"-rdynamic", "-pie", "-fPIE"}},
		"in a program with a large block":           {program: []string{"-rdynamic", "-DPAD"}},
		"initial exec":                              {library: []string{"-ftls-model=initial-exec"}},
		"initial exec, loaded":                      {library: []string{"-ftls-model=initial-exec"}, load: true},
		"initial exec, bound to itself":             {library: []string{"-ftls-model=initial-exec", "-Wl,-Bsymbolic"}},
		"general dynamic":                           {library: traditional(), dynamic: true},
		"general dynamic, loaded":                   {library: traditional("-DPAD"), load: true, dynamic: true},
		"general dynamic, bound to itself":          {library: traditional("-Wl,-Bsymbolic"), dynamic: true},
		"descriptor at a fixed offset":              {library: descriptors()},
		"descriptor at a fixed offset, loaded":      {library: descriptors(), load: true},
		"descriptor in a block":                     {library: descriptors("-DPAD"), load: true, dynamic: true},
		"descriptor bound to itself":                {library: descriptors("-Wl,-Bsymbolic")},
		"descriptor in a block, bound to itself":    {library: descriptors("-DPAD", "-Wl,-Bsymbolic"), load: true, dynamic: true},
		"a library whose first address is not zero": {library: traditional("-Wl,-Ttext-segment=0x10000000"), dynamic: true},
	} {
		t.Run(name, func(t *testing.T) {
			pid, lines := startThreads(t, host, test.program, test.library, test.load)
			slot, err := slotOf(pid, new(elfCache))
			if err != nil {
				t.Fatal(err)
			}
			if got := slot.module != 0; got != test.dynamic {
				t.Errorf("findThreadSlot() = %+v, which is in a block: %v, want %v", slot, got, test.dynamic)
			}
			if slot.muslEntries {
				t.Error("the program seems to use musl")
			}
			memory, err := openMemory(processDirectory("/proc", pid))
			if err != nil {
				t.Fatal(err)
			}
			defer memory.Close()
			if len(lines) != 2 {
				t.Fatalf("the program prints %q, want a line for each of two threads", lines)
			}
			for _, line := range lines {
				var pointer, want uint64
				if _, err := fmt.Sscanf(line, "%x %x", &pointer, &want); err != nil {
					t.Fatal(err)
				}
				got, err := follow(slot, memory, pointer)
				if got != want || err != nil {
					t.Errorf("%+v leads from thread pointer %#x to %#x, %v, want %#x", slot, pointer, got, err, want)
				}
			}
		})
	}
}

func traditional(flags ...string) []string {
	if runtime.GOARCH == "arm64" {
		return append(flags, "-mtls-dialect=trad")
	}
	return append(flags, "-mtls-dialect=gnu")
}

func descriptors(flags ...string) []string {
	if runtime.GOARCH == "arm64" {
		return append(flags, "-mtls-dialect=desc")
	}
	return append(flags, "-mtls-dialect=gnu2")
}

// startThreads builds and runs the program of testdata/thread. With flags for the program the
// variable is in it. Without them it is in a library, and host is a program without the variable
// that has the library from its start or loads it.
func startThreads(t *testing.T, host string, program, library []string, load bool) (pid int, lines []string) {
	t.Helper()
	if program != nil {
		return start(t, exec.Command(build(t, "program", "gcc", append(program, mainSource, threadSource, "-pthread")...)))
	}
	shared := build(t, "libthread.so", "gcc", append(library, "-shared", "-fPIC", threadSource)...)
	if load {
		return start(t, exec.Command(host, shared))
	}
	command := exec.Command(host)
	command.Env = []string{"LD_PRELOAD=" + shared}
	return start(t, command)
}

// follow goes from the thread pointer to the variable, as the kernel side does.
func follow(slot threadSlot, memory *os.File, pointer uint64) (uint64, error) {
	if slot.module == 0 {
		return pointer + uint64(slot.offset), nil
	}
	if runtime.GOARCH == "amd64" {
		pointer += 8
	}
	vector, err := readWord(memory, pointer)
	if err != nil {
		return 0, err
	}
	block, err := readWord(memory, vector+16*slot.module)
	return block + uint64(slot.offset), err
}

func TestFindThreadSlotWithout(t *testing.T) {
	cache := new(elfCache)
	for name, test := range map[string]struct {
		pid  int
		want error
	}{
		"a process without":         {pid: os.Getpid(), want: errNoThreadContext},
		"a process that is no more": {pid: 1 << 30, want: os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := slotOf(test.pid, cache); !errors.Is(err, test.want) {
				t.Errorf("findThreadSlot() error = %v, want %v", err, test.want)
			}
		})
	}
}
