// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Operation is something that the running thread does.
type Operation struct {
	Name string
	Run  func() error
}

// ProbeReach returns nil if each of the operations goes through the function that a hook names, as "fexit/sock_recvmsg"
// does. A compiler may have put a function into those that call it, into all of them or into some. Then the error
// matches [ErrUnsupported].
func ProbeReach(hook string, operations ...Operation) error {
	if err := probeReach(hook, operations); err != nil {
		return fmt.Errorf("%s: %w: %w", hook, err, ErrUnsupported)
	}
	return nil
}

func probeReach(hook string, operations []Operation) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	kind, target, err := kindOf(hook)
	if err != nil {
		return err
	}
	runs, err := ebpf.NewMap(&ebpf.MapSpec{Name: "nettap_probe", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return err
	}
	defer runs.Close()
	program, err := loadProgram(&ebpf.ProgramSpec{
		Name: "nettap_probe", Type: kind.program, AttachType: kind.attach, AttachTo: target, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.FnGetCurrentPidTgid.Call(),
			asm.JNE.Imm32(asm.R0, int32(unix.Gettid()), "end"),
			asm.LoadMapValue(asm.R1, runs.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
			asm.Return(),
		},
	})
	if err != nil {
		return err
	}
	defer program.Close()
	attached, err := kind.link(target, program)
	if err != nil {
		return err
	}
	defer attached.Close()
	for _, operation := range operations {
		if err := reaches(operation, runs); err != nil {
			return err
		}
	}
	return nil
}

// reaches returns an error unless an operation makes the number of runs grow. The kernel skips a program on a CPU on
// which another thread was preempted in it, so there are several attempts.
func reaches(operation Operation, runs *ebpf.Map) error {
	var before, after uint64
	for range 3 {
		if err := runs.Lookup(uint32(0), &before); err != nil {
			return err
		}
		if err := operation.Run(); err != nil {
			return fmt.Errorf("%s: %w", operation.Name, err)
		}
		if err := runs.Lookup(uint32(0), &after); err != nil {
			return err
		}
		if after > before {
			return nil
		}
	}
	return fmt.Errorf("%s does not go through this function, which the compiler has put into one that calls it", operation.Name)
}
