// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// kind is a kind of hook: the part of a section name before its last slash.
type kind struct {
	program ebpf.ProgramType
	attach  ebpf.AttachType
	reads   bool              // its programs read kernel memory
	needs   []host.Capability // to load and attach it
	option  string            // the option of the kernel's build without which there are no such hooks
	many    bool              // one link attaches a program to many functions
	exit    bool              // its programs run when a function returns
}

var (
	tracing = []host.Capability{host.CapBPF, host.CapPerfmon}
	network = []host.Capability{host.CapBPF, host.CapPerfmon, host.CapNetAdmin}
)

// inCgroup reports whether programs of the kind are attached to a cgroup.
func (k kind) inCgroup() bool { return k.program == ebpf.CGroupSKB || k.program == ebpf.CGroupSock }

// Attach types of Linux 7.x that cilium/ebpf does not know yet.
//
// Source: enum bpf_attach_type in include/uapi/linux/bpf.h.
const (
	attachFEntryMulti ebpf.AttachType = 59 // BPF_TRACE_FENTRY_MULTI
	attachFExitMulti  ebpf.AttachType = 60 // BPF_TRACE_FEXIT_MULTI
)

const (
	trampolines = "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"
	probes      = "CONFIG_KPROBE_EVENTS"
	fprobes     = "CONFIG_FPROBE"
	cgroups     = "CONFIG_CGROUP_BPF"
)

var kinds = map[string]kind{
	"tp_btf":          {program: ebpf.Tracing, attach: ebpf.AttachTraceRawTp, reads: true, needs: tracing, option: "CONFIG_BPF_EVENTS"},
	"iter":            {program: ebpf.Tracing, attach: ebpf.AttachTraceIter, reads: true, needs: tracing, option: "CONFIG_BPF_SYSCALL"},
	"fentry":          {program: ebpf.Tracing, attach: ebpf.AttachTraceFEntry, reads: true, needs: tracing, option: trampolines},
	"fexit":           {program: ebpf.Tracing, attach: ebpf.AttachTraceFExit, reads: true, needs: tracing, option: trampolines, exit: true},
	"fentry.multi":    {program: ebpf.Tracing, attach: attachFEntryMulti, reads: true, needs: tracing, option: trampolines, many: true},
	"fexit.multi":     {program: ebpf.Tracing, attach: attachFExitMulti, reads: true, needs: tracing, option: trampolines, many: true, exit: true},
	"kprobe":          {program: ebpf.Kprobe, attach: ebpf.AttachNone, reads: true, needs: tracing, option: probes},
	"kretprobe":       {program: ebpf.Kprobe, attach: ebpf.AttachNone, reads: true, needs: tracing, option: probes, exit: true},
	"kprobe.multi":    {program: ebpf.Kprobe, attach: ebpf.AttachTraceKprobeMulti, reads: true, needs: tracing, option: fprobes, many: true},
	"kretprobe.multi": {program: ebpf.Kprobe, attach: ebpf.AttachTraceKprobeMulti, reads: true, needs: tracing, option: fprobes, many: true, exit: true},
	"kprobe.session":  {program: ebpf.Kprobe, attach: ebpf.AttachTraceKprobeSession, reads: true, needs: tracing, option: fprobes, many: true},

	"cgroup_skb/ingress":  {program: ebpf.CGroupSKB, attach: ebpf.AttachCGroupInetIngress, needs: network, option: cgroups},
	"cgroup_skb/egress":   {program: ebpf.CGroupSKB, attach: ebpf.AttachCGroupInetEgress, needs: network, option: cgroups},
	"cgroup/sock_create":  {program: ebpf.CGroupSock, attach: ebpf.AttachCGroupInetSockCreate, needs: network, option: cgroups},
	"cgroup/sock_release": {program: ebpf.CGroupSock, attach: ebpf.AttachCgroupInetSockRelease, needs: network, option: cgroups},
}

// kindOf splits a section name: "fexit/inet_csk_accept" is of kind fexit and has the target
// inet_csk_accept; "cgroup_skb/ingress" is a kind without a target.
func kindOf(hook string) (k kind, target string, err error) {
	if k, ok := kinds[hook]; ok {
		return k, "", nil
	}
	name, target, _ := strings.Cut(hook, "/")
	k, ok := kinds[name]
	if !ok {
		return kind{}, "", fmt.Errorf("unknown kind of hook %q", hook)
	}
	return k, target, nil
}

// explain tells why an empty program on the hook gave err. lockdown is the content of
// /sys/kernel/security/lockdown, such as "none [integrity] confidentiality".
func (k kind) explain(err error, lockdown string) error {
	switch {
	case k.reads && strings.Contains(lockdown, "[confidentiality]"):
		return fmt.Errorf("kernel lockdown keeps BPF from reading kernel memory: start the kernel with lockdown=integrity: %w", err)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("all capabilities are there, so a seccomp filter, a security module or the kernel's build refuses it: %w", syscall.EPERM)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("the kernel may be built without %s: %w", k.option, err)
	}
	return err
}
