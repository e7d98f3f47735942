// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel_test

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

func TestKernelSymbolsKnowTheirOwnAddresses(t *testing.T) {
	kerneltest.Require(t)
	address := addressOf(t, "tcp_v4_rcv")
	symbols, err := kernel.RunningSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []uint64{0, 1, 64} {
		if got, _ := symbols.Function(address + offset); got != "tcp_v4_rcv" {
			t.Errorf("Function(tcp_v4_rcv + %d) = %q", offset, got)
		}
	}
}

// addressOf looks a function up in /proc/kallsyms.
func addressOf(t *testing.T, name string) uint64 {
	t.Helper()
	file, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); fields[2] == name {
			address, err := strconv.ParseUint(fields[0], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatalf("no %s in /proc/kallsyms", name)
	return 0
}

func TestKernelDropReasonsAreThoseOfTheKernel(t *testing.T) {
	kerneltest.Require(t)
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	arguments, err := kernel.TracepointArgs(spec, "kfree_skb")
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := kernel.DropReasons(spec, kernel.DropReasonModules()...)
	if givesReasons := arguments >= 3; !givesReasons {
		if !errors.Is(err, kernel.ErrUnsupported) {
			t.Errorf("DropReasons() fails with %v on a kernel without reasons, want ErrUnsupported", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := reasons[2]; got != "not_specified" && reasons[1] != "not_specified" {
		t.Errorf("reasons 1 and 2 are %q and %q, want not_specified for one", reasons[1], got)
	}
	numbers := map[string]int{}
	for _, name := range reasons {
		numbers[name]++
		if name != strings.ToLower(name) || strings.Contains(name, "drop_reason") {
			t.Errorf("reason %q is not lower case without prefix", name)
		}
	}
	if diff := cmp.Diff(len(reasons), len(numbers)); diff != "" || numbers["no_socket"] != 1 {
		t.Errorf("%d reasons have %d names, no_socket %d of them", len(reasons), len(numbers), numbers["no_socket"])
	}
}

func TestKernelReadCountsAddsUpTheCPUs(t *testing.T) {
	kerneltest.Require(t)
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer counts.Close()
	perCPU := make([]uint64, ebpf.MustPossibleCPU())
	for cpu := range perCPU {
		perCPU[cpu] = 1
	}
	perCPU[len(perCPU)-1] += 41
	if err := counts.Put(uint32(1), perCPU); err != nil {
		t.Fatal(err)
	}

	got, err := kernel.ReadCounts(counts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{0, uint64(len(perCPU)) + 41, 0}, got); diff != "" {
		t.Errorf("ReadCounts() differs (-want +got):\n%s", diff)
	}
}

func TestKernelRunIteratorVisitsEachTask(t *testing.T) {
	kerneltest.Require(t)
	calls, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer calls.Close()
	program := load(t, &ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "task",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, calls.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})

	if err := kernel.RunIterator(program); err != nil {
		t.Fatal(err)
	}
	var got uint64
	if err := calls.Lookup(uint32(0), &got); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		t.Fatal(err)
	}
	if got < uint64(len(tasks)) {
		t.Errorf("the program was called %d times, want at least for each of our %d threads", got, len(tasks))
	}
}

func load(t *testing.T, spec *ebpf.ProgramSpec) *ebpf.Program {
	t.Helper()
	spec.Name, spec.License = "nettap_test", "Dual BSD/GPL"
	program, err := ebpf.NewProgram(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}
