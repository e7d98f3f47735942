// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// maxStack is the stack, in bytes, that a program and all functions that are called inside of each
// other have together. Before Linux 6.9 what each has is rounded up to 32 bytes. From 6.13 on large
// functions have stacks of their own, so newer kernels do not show that older ones refuse a program.
//
// Source: check_max_stack_depth in kernel/bpf/verifier.c.
const (
	maxStack   = 512
	stackUnits = 32
)

// subprogram is what a function of a program needs: its stack, and other functions.
type subprogram struct {
	stack int
	calls map[string]bool
}

// functionsOf returns the functions of a program by their names. The stack of a function ends at the
// lowest address that it accesses or computes.
func functionsOf(program asm.Instructions) map[string]*subprogram {
	all := map[string]*subprogram{}
	var f *subprogram
	var pointers [16]bool // the registers that have the address of the frame
	for _, ins := range program {
		if name := ins.Symbol(); name != "" {
			f = &subprogram{calls: map[string]bool{}}
			all[name] = f
		}
		class := ins.OpCode.Class()
		switch {
		case ins.IsFunctionCall():
			f.calls[ins.Reference()] = true
		case class.IsStore() && ins.Dst == asm.R10, class.IsLoad() && ins.Src == asm.R10:
			f.stack = max(f.stack, -int(ins.Offset))
		case class.IsALU() && ins.OpCode.ALUOp() == asm.Add && pointers[ins.Dst]:
			f.stack = max(f.stack, -int(ins.Constant))
		}
		if class.IsALU() {
			pointers[ins.Dst] = ins.OpCode.ALUOp() == asm.Mov && ins.OpCode.Source() == asm.RegSource && ins.Src == asm.R10
		}
	}
	return all
}

// deepest returns the functions, the one that is called last at the end, that have most stack together.
func deepest(all map[string]*subprogram, name string) (path string, stack int) {
	for called := range all[name].calls {
		if p, s := deepest(all, called); s > stack {
			path, stack = p, s
		}
	}
	own := (max(all[name].stack, 1) + stackUnits - 1) / stackUnits * stackUnits
	return fmt.Sprintf("%s (%d) %s", name, own, path), own + stack
}

// CheckStack requires that each program fits into the stack of the oldest kernels, whichever options
// it is loaded with.
func CheckStack(t *testing.T, spec *ebpf.CollectionSpec) {
	t.Helper()
	for name, program := range spec.Programs {
		if path, stack := deepest(functionsOf(program.Instructions), name); stack > maxStack {
			t.Errorf("%s needs %d bytes of stack, and has %d: %s", name, stack, maxStack, path)
		}
	}
}
