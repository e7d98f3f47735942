// SPDX-License-Identifier: Apache-2.0

// Package rewrite changes the instructions of programs before they are loaded. This lets one
// program run on kernels that differ in something that the program cannot find out by itself. Each
// change is a function here, which tells what the compiler wrote, what it becomes, and for which
// kernels. Other differences are handled by CO-RE in the program itself.
package rewrite

import (
	"fmt"
	"maps"
	"math/bits"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// These constants mark the instructions that are rewritten. No program contains them otherwise.
//
// Kernel side: bpf/calls.bpf.c.
const (
	markIsReturn = 0x7a33 // the number of the function that is called
	markFunction = 0x7a11 // the constant that is loaded
	markTraits   = 0x7a22 // another one
	markResult   = 888    // the offset in the context that is read from
)

// Kernel side: bpf/lib/kernel/cpu.h.
const (
	markCPUs     = 0x7a44       // the mask of the number of a CPU
	sectionOfCPU = ".data.cpu_" // and the variable's name
)

// ForCPUs gives each of the possible CPUs its own memory in the sections .data.cpu_NAME, which a
// program finds by the number of its CPU. The programs have a section for one CPU, with zeros.
func ForCPUs(spec *ebpf.CollectionSpec, cpus int) {
	slots := 1 << bits.Len(uint(cpus-1)) // so that a mask limits the number
	for name, section := range spec.Maps {
		if strings.HasPrefix(name, sectionOfCPU) {
			section.ValueSize *= uint32(slots)
			section.Contents = nil
			section.Key, section.Value = nil, nil // which have the size of one
		}
	}
	maps.DeleteFunc(spec.Variables, func(_ string, variable *ebpf.VariableSpec) bool {
		return strings.HasPrefix(variable.SectionName, sectionOfCPU)
	})
	each(spec, func(instruction *asm.Instruction) {
		if instruction.OpCode.ALUOp() == asm.And && instruction.Constant == markCPUs {
			instruction.Constant = int64(slots - 1)
		}
	})
}

// WithoutTaskStorage adapts programs to kernels before 5.11, which have neither storage of tasks
// nor a helper that returns the running task as a pointer that the verifier knows.
//
//   - A map of type TASK_STORAGE cannot be made there. It becomes a hash with one entry, which
//     the programs do not use: they find out by CO-RE that the helper is missing, and the
//     verifier leaves out the code that depends on it. But each map that they name has to exist.
//   - A call of bpf_get_current_task_btf becomes one of bpf_get_current_task, which returns the
//     same address as a number. The programs then read the task by bpf_probe_read_kernel.
func WithoutTaskStorage(spec *ebpf.CollectionSpec) {
	for _, m := range spec.Maps {
		if m.Type == ebpf.TaskStorage {
			m.Type, m.Flags, m.MaxEntries = ebpf.Hash, 0, 1
		}
	}
	each(spec, func(instruction *asm.Instruction) {
		if instruction.IsBuiltinCall() && instruction.Constant == int64(asm.FnGetCurrentTaskBtf) {
			instruction.Constant = int64(asm.FnGetCurrentTask)
		}
	})
}

// SessionIsReturn makes the programs call the kfunc bpf_session_is_return, by which a program of a
// kprobe.session knows whether a function is entered or returns. The kfunc takes no argument up to
// Linux 6.18 and the context from 7.x on, and kernels of the one kind refuse a declaration of the
// other. So the program calls a function by a number that no function has, with the context as its
// argument. Here this becomes a call of the kfunc by the id that it has in the running kernel. A
// kfunc without an argument ignores the context.
//
// A kernel without the kfunc gives an error matching [host.ErrUnsupported].
func SessionIsReturn(spec *ebpf.CollectionSpec, types *btf.Spec) error {
	var kfunc *btf.Func
	if err := types.TypeByName("bpf_session_is_return", &kfunc); err != nil {
		return fmt.Errorf("kfunc bpf_session_is_return: %w: %w", err, host.ErrUnsupported)
	}
	id, err := types.TypeID(kfunc)
	if err != nil {
		return fmt.Errorf("kfunc bpf_session_is_return: %w", err)
	}
	each(spec, func(instruction *asm.Instruction) {
		if instruction.OpCode.JumpOp() == asm.Call && instruction.Src == 0 && instruction.Constant == markIsReturn {
			instruction.Src, instruction.Constant = asm.PseudoKfuncCall, int64(id)
		}
	})
	return nil
}

// ForFunction returns a copy of a program for one kernel function. A fentry or fexit program is
// always loaded for one function. Probes need copies if their links have no cookie that tells the
// program for which function it runs: before Linux 5.15.
//
//   - The constants markFunction and markTraits that the program loads become the low and the high
//     word of mark, which would otherwise be the cookie.
//   - fexit finds the function's result after its arguments, whose number differs between
//     functions. The program reads the context at offset markResult, which becomes 8 times
//     arguments. If withoutResult is true the program takes 0 instead: there is no result, or it is
//     a pointer, which the verifier would recognize and not let be used as a number. Since Linux
//     5.17 it calls the helper get_func_ret then.
func ForFunction(program *ebpf.ProgramSpec, function string, mark uint64, arguments int, withoutResult bool) *ebpf.ProgramSpec {
	one := program.Copy()
	one.AttachTo = function
	for i := range one.Instructions {
		switch instruction := &one.Instructions[i]; {
		case instruction.OpCode.IsDWordLoad() && instruction.Src == 0 && instruction.Constant == markFunction:
			instruction.Constant = int64(uint32(mark))
		case instruction.OpCode.IsDWordLoad() && instruction.Src == 0 && instruction.Constant == markTraits:
			instruction.Constant = int64(mark >> 32)
		case instruction.OpCode.Class() == asm.LdXClass && instruction.Offset == markResult:
			if withoutResult {
				*instruction = asm.Mov.Imm(instruction.Dst, 0).WithMetadata(instruction.Metadata)
			} else {
				instruction.Offset = int16(8 * arguments)
			}
		}
	}
	return one
}

func each(spec *ebpf.CollectionSpec, change func(*asm.Instruction)) {
	for _, program := range spec.Programs {
		for i := range program.Instructions {
			change(&program.Instructions[i])
		}
	}
}
