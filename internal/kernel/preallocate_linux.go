// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Preallocate lets a map allocate the memory of all its entries at the start, on kernels where
// allocating it when an entry is added is not safe:
//
//   - Before Linux 6.1 BPF maps have no allocator of their own, and a probe may have
//     interrupted the one that they use. The verifier warns about a probe with such a map,
//     which stops a machine with panic_on_warn.
//   - With PREEMPT_RT that allocator has four entries in stock, which are refilled by a
//     thread that soft interrupts do not wait for. A fifth is refused, as if the map were full.
//
// [Load] does this for the maps of its own programs that need it. A map that is shared with the
// probes of another object has to be created with it.
//
// Source: check_map_prog_compatibility in kernel/bpf/verifier.c, kernel/bpf/memalloc.c.
func Preallocate(types *btf.Spec, specs ...*ebpf.MapSpec) {
	if allocatesAnywhere(types) && !IsRealTime(types) {
		return
	}
	for _, m := range specs {
		switch m.Type {
		// the other kinds allocate nothing later, or have to
		case ebpf.Hash, ebpf.PerCPUHash, ebpf.HashOfMaps:
			m.Flags &^= unix.BPF_F_NO_PREALLOC
		}
		if m.InnerMap != nil {
			Preallocate(types, m.InnerMap)
		}
	}
}

// allocatesAnywhere reports whether BPF maps have an allocator of their own, which may be used
// wherever a program runs.
func allocatesAnywhere(types *btf.Spec) bool {
	var allocator *btf.Struct
	return types.TypeByName("bpf_mem_alloc", &allocator) == nil
}

// IsRealTime reports whether the kernel is built with PREEMPT_RT.
//
// Source: struct task_struct in include/linux/sched.h.
func IsRealTime(types *btf.Spec) bool {
	return hasMember(types, "task_struct", "softirq_disable_cnt")
}

// preallocated returns the maps of a spec that [Preallocate] is needed for.
func preallocated(types *btf.Spec, spec *ebpf.CollectionSpec) []*ebpf.MapSpec {
	if IsRealTime(types) {
		return slices.Collect(maps.Values(spec.Maps))
	}
	return probedMaps(spec)
}

// takeFlags gives the maps of spec the flags of those that replace them, which another object may
// have preallocated.
func takeFlags(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) {
	for name, m := range shared {
		if own := spec.Maps[name]; own != nil {
			own.Flags = m.Flags()
		}
	}
}

// probedMaps returns the maps of a spec that its probes use.
func probedMaps(spec *ebpf.CollectionSpec) []*ebpf.MapSpec {
	var maps []*ebpf.MapSpec
	for _, program := range spec.Programs {
		switch program.Type {
		case ebpf.Kprobe, ebpf.TracePoint, ebpf.PerfEvent, ebpf.RawTracepoint, ebpf.RawTracepointWritable:
		default:
			continue
		}
		for i := range program.Instructions {
			ins := &program.Instructions[i]
			if m := spec.Maps[ins.Reference()]; m != nil && ins.IsLoadFromMap() {
				maps = append(maps, m)
			}
		}
	}
	return maps
}
