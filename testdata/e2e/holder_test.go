// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	kernelhost "github.com/seed-7756021b/nettap/internal/kernel/host"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// holderVariable is an environment variable that makes this test binary a holder of what it names.
const holderVariable = "NETTAP_TEST_HOLDER"

// These are what holders hold.
const (
	queueOfFilters   = "a queue of lo that has filters"
	filterOfLoopback = "a filter of lo"
	cgroupWithOthers = "the root cgroup with BPF_F_ALLOW_MULTI"
	cgroupAlone      = "the root cgroup"
)

// held is what a holder holds. Programs that are attached in these ways stay when the process that attached
// them has ended. So a process of its own attaches them, and detaches them when its input ends, which it does
// in whatever way the test ends.
type held struct{ *kerneltest.Program }

// hold lets a holder attach a program.
func hold(t *testing.T, what string, program *ebpf.Program) held {
	t.Helper()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := unix.FcntlInt(uintptr(program.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(inherited), "program")
	defer file.Close()
	command := exec.Command(own)
	command.Env = append(os.Environ(), holderVariable+"="+what)
	command.ExtraFiles, command.Stderr = []*os.File{file}, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what is sent to the test's group must not end it
	output := kerneltest.OutputOf(t, command)
	h := held{kerneltest.StartProgram(t, command)}
	output.Line() // it is held
	return h
}

// Close implements [io.Closer]. A holder that fails fails the test.
func (h held) Close() error {
	h.End()
	return nil
}

// holder is what a holder does.
func holder(what string) error {
	const program = 3 // the first of ExtraFiles
	detach, err := attachHeld(what, program)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	fmt.Println("attached")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, detach())
}

func attachHeld(what string, program int) (detach func() error, err error) {
	switch what {
	case cgroupWithOthers:
		return attachToCgroup(program, unix.BPF_F_ALLOW_MULTI)
	case cgroupAlone:
		return attachToCgroup(program, 0)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	if what == queueOfFilters {
		queue := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lo.Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		if err := netlink.QdiscAdd(queue); errors.Is(err, unix.EEXIST) {
			return func() error { return nil }, nil // it belongs to someone else
		} else if err != nil {
			return nil, err
		}
		return func() error { return netlink.QdiscDel(queue) }, nil
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: lo.Index, Parent: netlink.HANDLE_MIN_INGRESS, Protocol: unix.ETH_P_ALL, Priority: uint16(os.Getpid()%0xffff) + 1},
		Fd:          program, Name: "stranger", DirectAction: true,
	}
	return func() error { return netlink.FilterDel(filter) }, netlink.FilterAdd(filter)
}

// attachToCgroup attaches a program to the root cgroup without a link.
func attachToCgroup(fd int, flags uint32) (detach func() error, err error) {
	root, err := kernelhost.CgroupRoot("")
	if err != nil {
		return nil, err
	}
	cgroup, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	program, err := ebpf.NewProgramFromFD(fd)
	if err != nil {
		return nil, err
	}
	detach = func() error {
		return link.RawDetachProgram(link.RawDetachProgramOptions{Target: int(cgroup.Fd()), Program: program, Attach: ebpf.AttachCGroupInetIngress})
	}
	return detach, link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(cgroup.Fd()), Program: program, Attach: ebpf.AttachCGroupInetIngress, Flags: flags,
	})
}
