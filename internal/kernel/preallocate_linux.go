package kernel

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Preallocate lets a map have the memory of all its entries from the start where the
// kernel would take that of each when it is added, from an allocator that a probe may
// have interrupted: before Linux 6.1. There the verifier warns of a probe that uses
// such a map, and a machine with panic_on_warn falls over. [Load] does it for the
// maps that probes among its own programs use; a map that is shared with another
// object's probes needs it when it is made.
//
// Source: check_map_prog_compatibility in kernel/bpf/verifier.c.
func Preallocate(types *btf.Spec, maps ...*ebpf.MapSpec) {
	if allocatesAnywhere(types) {
		return
	}
	for _, m := range maps {
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
