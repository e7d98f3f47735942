// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

func specOf(instructions ...asm.Instruction) *ebpf.CollectionSpec {
	return &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"program": {Instructions: instructions}}}
}

// printed are the instructions as the assembler prints them.
func printed(program *ebpf.ProgramSpec) []string {
	var lines []string
	for _, instruction := range program.Instructions {
		lines = append(lines, fmt.Sprint(instruction))
	}
	return lines
}

func wantInstructions(t *testing.T, program *ebpf.ProgramSpec, want ...asm.Instruction) {
	t.Helper()
	if diff := cmp.Diff(printed(&ebpf.ProgramSpec{Instructions: want}), printed(program)); diff != "" {
		t.Errorf("instructions differ (-want +got):\n%s", diff)
	}
}

func TestWithoutTaskStorage(t *testing.T) {
	spec := specOf(asm.FnGetCurrentTaskBtf.Call(), asm.FnKtimeGetNs.Call())
	spec.Maps = map[string]*ebpf.MapSpec{
		"trees": {Type: ebpf.TaskStorage, Flags: 1, MaxEntries: 0},
		"calls": {Type: ebpf.RingBuf, MaxEntries: 4096},
	}
	WithoutTaskStorage(spec)
	wantInstructions(t, spec.Programs["program"], asm.FnGetCurrentTask.Call(), asm.FnKtimeGetNs.Call())
	if trees := spec.Maps["trees"]; trees.Type != ebpf.Hash || trees.Flags != 0 || trees.MaxEntries != 1 {
		t.Errorf("storage of tasks became %v", trees)
	}
	if calls := spec.Maps["calls"]; calls.Type != ebpf.RingBuf || calls.MaxEntries != 4096 {
		t.Errorf("a ring became %v", calls)
	}
}

func TestSessionIsReturn(t *testing.T) {
	kfunc := &btf.Func{Name: "bpf_session_is_return", Type: &btf.FuncProto{Return: &btf.Void{}}}
	builder, err := btf.NewBuilder([]btf.Type{kfunc}, nil)
	if err != nil {
		t.Fatal(err)
	}
	types, err := builder.Spec()
	if err != nil {
		t.Fatal(err)
	}
	id, err := types.TypeID(first(t, types))
	if err != nil {
		t.Fatal(err)
	}
	marked := asm.BuiltinFunc(markIsReturn).Call()
	spec := specOf(marked, asm.FnKtimeGetNs.Call())
	if err := SessionIsReturn(spec, types); err != nil {
		t.Fatal(err)
	}
	call := marked
	call.Src, call.Constant = asm.PseudoKfuncCall, int64(id)
	wantInstructions(t, spec.Programs["program"], call, asm.FnKtimeGetNs.Call())
}

func first(t *testing.T, types *btf.Spec) *btf.Func {
	t.Helper()
	var kfunc *btf.Func
	if err := types.TypeByName("bpf_session_is_return", &kfunc); err != nil {
		t.Fatal(err)
	}
	return kfunc
}

func TestSessionIsReturnWithoutTheFunction(t *testing.T) {
	builder, err := btf.NewBuilder(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	types, err := builder.Spec()
	if err != nil {
		t.Fatal(err)
	}
	if err := SessionIsReturn(specOf(), types); !errors.Is(err, host.ErrUnsupported) {
		t.Errorf("SessionIsReturn() = %v, want one that matches ErrUnsupported", err)
	}
}

func TestForFunction(t *testing.T) {
	program := &ebpf.ProgramSpec{AttachTo: "sock_alloc_file", Instructions: asm.Instructions{
		asm.LoadImm(asm.R1, markFunction, asm.DWord),
		asm.LoadImm(asm.R4, markTraits, asm.DWord),
		asm.LoadMem(asm.R2, asm.R6, markResult, asm.DWord),
		asm.LoadMem(asm.R3, asm.R6, 8, asm.DWord),
	}}
	for name, test := range map[string]struct {
		withoutResult bool
		want          asm.Instruction
	}{
		"the result is behind the arguments": {want: asm.LoadMem(asm.R2, asm.R6, 24, asm.DWord)},
		"there is no result":                 {withoutResult: true, want: asm.Mov.Imm(asm.R2, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			got := ForFunction(program, "tcp_sendmsg", 9<<32|7, 3, test.withoutResult)
			wantInstructions(t, got, asm.LoadImm(asm.R1, 7, asm.DWord), asm.LoadImm(asm.R4, 9, asm.DWord), test.want, asm.LoadMem(asm.R3, asm.R6, 8, asm.DWord))
			if got.AttachTo != "tcp_sendmsg" {
				t.Errorf("it is attached to %s", got.AttachTo)
			}
			wantInstructions(t, program, asm.LoadImm(asm.R1, markFunction, asm.DWord), asm.LoadImm(asm.R4, markTraits, asm.DWord),
				asm.LoadMem(asm.R2, asm.R6, markResult, asm.DWord), asm.LoadMem(asm.R3, asm.R6, 8, asm.DWord))
		})
	}
}

func TestForCPUs(t *testing.T) {
	for cpus, slots := range map[int]uint32{1: 1, 2: 2, 3: 4, 8: 8, 9: 16, 96: 128} {
		spec := specOf(asm.And.Imm(asm.R0, markCPUs), asm.And.Imm(asm.R0, 63), asm.Mov.Imm(asm.R0, markCPUs))
		spec.Maps = map[string]*ebpf.MapSpec{
			".data.cpu_cells": {
				Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1, Key: &btf.Void{}, Value: &btf.Datasec{Size: 64},
				Contents: []ebpf.MapKV{{Key: uint32(0), Value: make([]byte, 64)}},
			},
			".data.shared": {Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1},
		}
		spec.Variables = map[string]*ebpf.VariableSpec{"cells": {SectionName: ".data.cpu_cells"}, "handovers": {SectionName: ".data.shared"}}
		ForCPUs(spec, cpus)
		wantInstructions(t, spec.Programs["program"], asm.And.Imm(asm.R0, int32(slots)-1), asm.And.Imm(asm.R0, 63), asm.Mov.Imm(asm.R0, markCPUs))
		want := map[string]*ebpf.MapSpec{
			".data.cpu_cells": {Type: ebpf.Array, KeySize: 4, ValueSize: 64 * slots, MaxEntries: 1},
			".data.shared":    {Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1},
		}
		if diff := cmp.Diff(want, spec.Maps); diff != "" {
			t.Errorf("maps for %d CPUs (-want +got):\n%s", cpus, diff)
		}
		if spec.Variables["cells"] != nil || spec.Variables["handovers"] == nil {
			t.Errorf("variables for %d CPUs: %v", cpus, spec.Variables)
		}
	}
}
