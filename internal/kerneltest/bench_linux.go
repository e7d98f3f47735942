// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// CountRuns lets the kernel count what runs of programs take, while the benchmark
// lasts: see [PerRun].
func CountRuns(b *testing.B) {
	b.Helper()
	statistics, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { statistics.Close() })
}

// PerRun returns what a run of a program took, in nanoseconds, and how many there were.
func PerRun(b *testing.B, program *ebpf.Program) (nanos float64, runs uint64) {
	b.Helper()
	stats, err := program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return float64(stats.Runtime.Nanoseconds()) / float64(max(stats.RunCount, 1)), stats.RunCount
}

// attachEmpty attaches a program that does nothing to a tracepoint, and returns it and
// what detaches it.
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

// EmptyRuns returns what a run of a program that does nothing takes, in nanoseconds, on
// each of some tracepoints, while exercise makes them fire as long as there is to be
// more. The keys are the caller's. Afterwards the programs are gone, and another has the same place: the first program on
// a tracepoint takes longer than those after it.
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

// Newest returns the program of that name that was loaded last, on the whole machine.
func Newest(b *testing.B, name string) *ebpf.Program {
	b.Helper()
	var newest *ebpf.Program
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		program, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it has gone
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
