// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestPreallocate(t *testing.T) {
	const onDemand = unix.BPF_F_NO_PREALLOC
	before := &btf.Struct{Name: "bpf_htab"}
	since := &btf.Struct{Name: "bpf_mem_alloc"}

	for name, test := range map[string]struct {
		kernel btf.Type
		probe  ebpf.ProgramType
		used   ebpf.MapType
		want   uint32
	}{
		"a hash of a kprobe":                       {kernel: before, probe: ebpf.Kprobe, used: ebpf.Hash},
		"a hash of each CPU":                       {kernel: before, probe: ebpf.Kprobe, used: ebpf.PerCPUHash},
		"a hash of maps":                           {kernel: before, probe: ebpf.Kprobe, used: ebpf.HashOfMaps},
		"a hash of a tracepoint":                   {kernel: before, probe: ebpf.TracePoint, used: ebpf.Hash},
		"a hash of a counter's overflow":           {kernel: before, probe: ebpf.PerfEvent, used: ebpf.Hash},
		"a hash of a raw tracepoint":               {kernel: before, probe: ebpf.RawTracepoint, used: ebpf.Hash},
		"a hash of a writable raw tracepoint":      {kernel: before, probe: ebpf.RawTracepointWritable, used: ebpf.Hash},
		"a hash of what is no probe":               {kernel: before, probe: ebpf.Tracing, used: ebpf.Hash, want: onDemand},
		"a map of sockets cannot be preallocated":  {kernel: before, probe: ebpf.Kprobe, used: ebpf.SkStorage, want: onDemand},
		"a map of prefixes cannot be preallocated": {kernel: before, probe: ebpf.Kprobe, used: ebpf.LPMTrie, want: onDemand},
		"from Linux 6.1 on":                        {kernel: since, probe: ebpf.Kprobe, used: ebpf.Hash, want: onDemand},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &ebpf.CollectionSpec{
				Maps: map[string]*ebpf.MapSpec{
					"used":   {Type: test.used, Flags: onDemand | unix.BPF_F_NUMA_NODE},
					"unused": {Type: ebpf.Hash, Flags: onDemand},
				},
				Programs: map[string]*ebpf.ProgramSpec{"program": {Type: test.probe, Instructions: asm.Instructions{
					asm.LoadMapPtr(asm.R1, 0).WithReference("used"),
				}}},
			}
			types := specOf(t, test.kernel)
			Preallocate(types, preallocated(types, spec)...)
			got := map[string]uint32{"used": spec.Maps["used"].Flags, "unused": spec.Maps["unused"].Flags}
			want := map[string]uint32{"used": test.want | unix.BPF_F_NUMA_NODE, "unused": onDemand}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the flags of the maps differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPreallocateOnPreemptRT(t *testing.T) {
	types := specOf(t, &btf.Struct{Name: "bpf_mem_alloc"}, &btf.Struct{Name: "task_struct", Size: 4, Members: []btf.Member{
		{Name: "softirq_disable_cnt", Type: &btf.Int{Name: "int", Size: 4}},
	}})
	spec := &ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{
		"hash":    {Type: ebpf.Hash, Flags: unix.BPF_F_NO_PREALLOC},
		"storage": {Type: ebpf.SkStorage, Flags: unix.BPF_F_NO_PREALLOC},
	}}

	Preallocate(types, preallocated(types, spec)...)
	got := map[string]uint32{"hash": spec.Maps["hash"].Flags, "storage": spec.Maps["storage"].Flags}
	if diff := cmp.Diff(map[string]uint32{"hash": 0, "storage": unix.BPF_F_NO_PREALLOC}, got); diff != "" {
		t.Errorf("the flags of the maps differ (-want +got):\n%s", diff)
	}
}

func TestPreallocateInnerMaps(t *testing.T) {
	outer := &ebpf.MapSpec{Type: ebpf.ArrayOfMaps, InnerMap: &ebpf.MapSpec{Type: ebpf.Hash, Flags: unix.BPF_F_NO_PREALLOC}}

	Preallocate(specOf(t, &btf.Struct{Name: "bpf_htab"}), outer)
	if outer.InnerMap.Flags != 0 {
		t.Errorf("an inner map has the flags %#x, want 0", outer.InnerMap.Flags)
	}
}
