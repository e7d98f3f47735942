// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// CountRuns makes the kernel measure the runs of programs during the benchmark: see [PerRun].
func CountRuns(b *testing.B) {
	b.Helper()
	statistics, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { statistics.Close() })
}

// PerRun returns how long a run of a program took, in nanoseconds, and how many runs there were.
func PerRun(b *testing.B, program *ebpf.Program) (nanos float64, runs uint64) {
	b.Helper()
	stats, err := program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return float64(stats.Runtime.Nanoseconds()) / float64(max(stats.RunCount, 1)), stats.RunCount
}

// attachEmpty attaches a program that does nothing to a tracepoint. It returns the program and a
// function that detaches it.
func attachEmpty(b *testing.B, tracepoint string) (*ebpf.Program, func()) {
	b.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nettap_empty", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: tracepoint,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "Dual BSD/GPL",
	})
	if err != nil {
		b.Fatal(err)
	}
	attached, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		b.Fatal(err)
	}
	return program, func() {
		attached.Close()
		program.Close()
	}
}

// EmptyRuns returns how long a run of a program that does nothing takes on each of some
// tracepoints, in nanoseconds. exercise makes the tracepoints fire while more returns true. The
// keys are the caller's. The programs are detached afterwards, so that another program can take
// their place: the first program on a tracepoint takes longer than those after it.
func EmptyRuns(b *testing.B, tracepoints map[string]string, exercise func(more func() bool)) map[string]float64 {
	b.Helper()
	const times = 100_000
	nanos := map[string]float64{}
	empty := map[string]*ebpf.Program{}
	for key, tracepoint := range tracepoints {
		program, detach := attachEmpty(b, tracepoint)
		defer detach()
		empty[key] = program
	}
	n := 0
	exercise(func() bool { n++; return n <= times })
	for key, program := range empty {
		nanos[key], _ = PerRun(b, program)
	}
	return nanos
}

// Newest returns the program with a name that was loaded last on the whole machine.
func Newest(b *testing.B, name string) *ebpf.Program {
	b.Helper()
	var newest *ebpf.Program
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		program, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it was unloaded meanwhile
		}
		b.Cleanup(func() { program.Close() })
		if info, err := program.Info(); err == nil && info.Name == name {
			newest = program
		}
	}
	if newest == nil {
		b.Skipf("no program %s is loaded", name)
	}
	return newest
}
