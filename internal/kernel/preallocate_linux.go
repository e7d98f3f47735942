// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Preallocate lets a map have the memory of all its entries from the start where the
// kernel cannot well take that of each when it is added:
//
//   - Before Linux 6.1, whose BPF maps have no allocator of their own, a probe may have
//     interrupted the one they use. The verifier warns of a probe with such a map, and a
//     machine with panic_on_warn falls over.
//   - With PREEMPT_RT that allocator has four entries in stock, and is given more by a
//     thread that soft interrupts do not wait for: a fifth is refused, as if the map were full.
//
// [Load] does it for the maps of its own programs that need it; a map that is shared with
// another object's probes needs it when it is made.
//
// Source: check_map_prog_compatibility in kernel/bpf/verifier.c, kernel/bpf/memalloc.c.
func Preallocate(types *btf.Spec, specs ...*ebpf.MapSpec) {
	if allocatesAnywhere(types) && !IsRealTime(types) {
		return
	}
	for _, m := range specs {
		switch m.Type {
		case ebpf.Hash, ebpf.PerCPUHash, ebpf.HashOfMaps: // others take no memory later, or must
			m.Flags &^= unix.BPF_F_NO_PREALLOC
		}
		if m.InnerMap != nil {
			Preallocate(types, m.InnerMap)
		}
	}
}

// allocatesAnywhere says whether BPF maps have an allocator of their own, which may be
// used wherever a program runs.
func allocatesAnywhere(types *btf.Spec) bool {
	var allocator *btf.Struct
	return types.TypeByName("bpf_mem_alloc", &allocator) == nil
}

// IsRealTime says whether the kernel is built with PREEMPT_RT.
//
// Source: struct task_struct in include/linux/sched.h.
func IsRealTime(types *btf.Spec) bool {
	return hasMember(types, "task_struct", "softirq_disable_cnt")
}

// preallocated returns those of a spec's maps that [Preallocate] is for.
func preallocated(types *btf.Spec, spec *ebpf.CollectionSpec) []*ebpf.MapSpec {
	if IsRealTime(types) {
		return slices.Collect(maps.Values(spec.Maps))
	}
	return probedMaps(spec)
}

// takeFlags makes of spec's maps what those that take their places are: another object
// may have preallocated them.
func takeFlags(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map) {
	for name, m := range shared {
		if own := spec.Maps[name]; own != nil {
			own.Flags = m.Flags()
		}
	}
}

// probedMaps returns those of a spec's maps that its probes use.
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
