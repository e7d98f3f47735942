// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// TestKernelNamesAProgramThatIsAlone attaches a program to the root cgroup as programs were attached
// before Linux 4.15, so that the kernel attaches no other one. It is of a kind that nettap itself does
// not use.
func TestKernelNamesAProgramThatIsAlone(t *testing.T) {
	const hook = "cgroup_skb/egress"
	if err := errors.Join(RequireHost(""), Probe(hook)); err != nil {
		t.Skip(err)
	}
	k, _, err := kindOf(hook)
	if err != nil {
		t.Fatal(err)
	}
	root, err := host.CgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	pass := asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()} // 0 would drop the packets of the whole machine
	load := func(name string) *ebpf.Program {
		program, err := loadProgram(&ebpf.ProgramSpec{Name: name, Type: k.program, AttachType: k.attach, Instructions: pass, License: "GPL"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { program.Close() })
		return program
	}
	cgroup, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer cgroup.Close()
	stranger, ours := load("stranger"), load("ours")
	target := int(cgroup.Fd())
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{Target: target, Program: stranger, Attach: k.attach}); err != nil {
		t.Fatal(err)
	}
	detach := func() error {
		return link.RawDetachProgram(link.RawDetachProgramOptions{Target: target, Program: stranger, Attach: k.attach})
	}
	defer detach() //nolint:errcheck // it may be done

	info, err := stranger.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	_, err = k.linkCgroup("", ours)
	want := fmt.Sprintf("program %d, \"stranger\", of another application is attached to the cgroup %s so that no other can be", id, root)
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("next to it: %v, want %s", err, want)
	}
	if err := detach(); err != nil {
		t.Fatal(err)
	}
	attached, err := k.linkCgroup("", ours)
	if err != nil {
		t.Fatalf("after it: %v", err)
	}
	if err := attached.Close(); err != nil {
		t.Error(err)
	}
}
