package kernel

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
)

// kind is a kind of hook: the part of a section name before its last slash.
type kind struct {
	program ebpf.ProgramType
	attach  ebpf.AttachType
	reads   bool         // its programs read kernel memory
	needs   []capability // to load and attach it
	option  string       // of the kernel's build, without which there are none
}

var (
	tracing = []capability{capBPF, capPerfmon}
	network = []capability{capBPF, capPerfmon, capNetAdmin}
)

// inCgroup says whether programs of the kind are attached to a cgroup.
func (k kind) inCgroup() bool { return k.program == ebpf.CGroupSKB || k.program == ebpf.CGroupSock }

var kinds = map[string]kind{
	"tp_btf":              {ebpf.Tracing, ebpf.AttachTraceRawTp, true, tracing, "CONFIG_BPF_EVENTS"},
	"fentry":              {ebpf.Tracing, ebpf.AttachTraceFEntry, true, tracing, "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"},
	"fexit":               {ebpf.Tracing, ebpf.AttachTraceFExit, true, tracing, "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"},
	"iter":                {ebpf.Tracing, ebpf.AttachTraceIter, true, tracing, "CONFIG_BPF_SYSCALL"},
	"kprobe":              {ebpf.Kprobe, ebpf.AttachNone, true, tracing, "CONFIG_KPROBE_EVENTS"},
	"cgroup_skb/ingress":  {ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, false, network, "CONFIG_CGROUP_BPF"},
	"cgroup_skb/egress":   {ebpf.CGroupSKB, ebpf.AttachCGroupInetEgress, false, network, "CONFIG_CGROUP_BPF"},
	"cgroup/sock_create":  {ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate, false, network, "CONFIG_CGROUP_BPF"},
	"cgroup/sock_release": {ebpf.CGroupSock, ebpf.AttachCgroupInetSockRelease, false, network, "CONFIG_CGROUP_BPF"},
}

// kindOf splits a section name: "fexit/inet_csk_accept" is of kind fexit and its
// target is inet_csk_accept, "cgroup_skb/ingress" is a kind without target.
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

// explain says why err came of an empty program on the hook. lockdown is the
// content of /sys/kernel/security/lockdown, as "none [integrity] confidentiality".
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
