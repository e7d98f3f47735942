// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// relocate adapts what the programs of spec read to the types of this kernel, before they
// are copied. The loader would look for the same members of the same types in each program
// and in each copy of one, which is most of what loading hundreds of them takes.
func relocate(spec *ebpf.CollectionSpec, types *btf.Cache) error {
	var all []*btf.CORERelocation // those that differ
	byName, indexes := map[string]int{}, map[*btf.CORERelocation]int{}
	_ = eachRelocated(spec, func(_ *asm.Instruction, relocation *btf.CORERelocation) error {
		name := relocation.String()
		if _, known := byName[name]; !known {
			byName[name] = len(all)
			all = append(all, relocation)
		}
		indexes[relocation] = byName[name]
		return nil
	})
	if len(all) == 0 {
		return nil
	}
	targets, err := targetsOf(types)
	if err != nil {
		return err
	}
	fixups, err := btf.CORERelocate(all, targets, spec.ByteOrder, refuseLocalID)
	if err != nil {
		return fmt.Errorf("find what programs read in the types of this kernel: %w", err)
	}
	return eachRelocated(spec, func(instruction *asm.Instruction, relocation *btf.CORERelocation) error {
		if err := fixups[indexes[relocation]].Apply(instruction); err != nil {
			return fmt.Errorf("%v: %w", relocation, err)
		}
		*instruction = btf.WithCORERelocationMetadata(*instruction, nil) // or the loader does it again
		return nil
	})
}

// eachRelocated calls visit with each instruction that depends on the kernel's types.
func eachRelocated(spec *ebpf.CollectionSpec, visit func(*asm.Instruction, *btf.CORERelocation) error) error {
	for name, program := range spec.Programs {
		for i := range program.Instructions {
			instruction := &program.Instructions[i]
			relocation := btf.CORERelocationMetadata(instruction)
			if relocation == nil {
				continue
			}
			if err := visit(instruction, relocation); err != nil {
				return fmt.Errorf("program %s: %w", name, err)
			}
		}
	}
	return nil
}

// targetsOf returns the types of the kernel and of its modules that are loaded.
func targetsOf(types *btf.Cache) ([]*btf.Spec, error) {
	kernel, err := types.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the types of the kernel: %w", err)
	}
	targets := []*btf.Spec{kernel}
	modules, err := types.Modules()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel may not have those of modules
		return nil, fmt.Errorf("list the modules of the kernel: %w", err)
	}
	for _, name := range modules {
		module, err := types.Module(name)
		if err != nil {
			return nil, fmt.Errorf("read the types of module %s: %w", name, err)
		}
		targets = append(targets, module)
	}
	return targets, nil
}

// refuseLocalID stands for what only the loader can know: the numbers of the program's own types.
func refuseLocalID(btf.Type) (btf.TypeID, error) { return 0, errors.ErrUnsupported }
