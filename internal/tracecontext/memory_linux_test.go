// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"debug/elf"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestLoadBias finds the first instructions of a program at the address where they were loaded.
func TestLoadBias(t *testing.T) {
	for name, flag := range map[string]string{"at a fixed address": "-no-pie", "position-independent": "-pie"} {
		t.Run(name, func(t *testing.T) {
			path := build(t, "host", "gcc", mainSource, threadSource, "-rdynamic", "-pthread", "-fPIE", flag)
			file, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			pid, _ := start(t, exec.Command(path))
			bias, err := loadBias("/proc", pid, file.Entry)
			if err != nil {
				t.Fatal(err)
			}
			if (bias != 0) != (flag == "-pie") {
				t.Errorf("loadBias() = %#x", bias)
			}
			var want, got [16]byte
			if err := readMemory(file, file.Entry, want[:]); err != nil {
				t.Fatal(err)
			}
			if _, err := memoryOf(t, pid).file.ReadAt(got[:], int64(bias+file.Entry)); got != want || err != nil {
				t.Errorf("the program starts with % x, %v, want % x", got, err, want)
			}
			if bias, err := loadBias("/proc", pid, file.Entry+8); err == nil || !strings.Contains(err.Error(), "not that of the program") {
				t.Errorf("loadBias() of another program = %#x, %v", bias, err)
			}
		})
	}
}

func TestLoadBiasOfKernelThread(t *testing.T) {
	const kthreadd = 2
	name, err := os.ReadFile("/proc/2/comm")
	if err != nil || string(name) != "kthreadd\n" {
		t.Skipf("kernel threads are not to be seen here: %q, %v", name, err)
	}
	if bias, err := loadBias("/proc", kthreadd, 0x401000); err == nil {
		t.Errorf("loadBias() = %#x, want an error", bias)
	}
}
