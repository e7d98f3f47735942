package kernel

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Probe loads an empty program for a hook, given by its section name such as
// "fexit/inet_csk_accept" or "cgroup_skb/ingress", and attaches it for a moment
// where that can be done without a cgroup. It returns nil when that works.
//
// The error says what is missing. It matches [os.ErrPermission] when it is a
// capability, else [ErrUnsupported].
func Probe(hook string) error {
	kind, target, err := kindOf(hook)
	if err != nil {
		return err
	}
	if err := requireHeld(kind.needs...); err != nil {
		return fmt.Errorf("%s: %w", hook, err)
	}
	if err := kind.try(hook, target); err != nil {
		lockdown, _ := os.ReadFile("/sys/kernel/security/lockdown") // there is none without the security module
		return fmt.Errorf("an empty program on %s: %w: %w", hook, kind.explain(err, string(lockdown)), ErrUnsupported)
	}
	return nil
}

// Explain returns err, which came of loading spec. Where an empty program does not
// work either, on the hook of one of its programs, it says why that is, and so
// matches what [Probe] does.
func Explain(err error, spec *ebpf.CollectionSpec) error {
	if err == nil {
		return nil
	}
	hooks := map[string]bool{}
	for _, program := range spec.Programs {
		hooks[program.SectionName] = true
	}
	for _, hook := range slices.Sorted(maps.Keys(hooks)) {
		if _, _, unknown := kindOf(hook); unknown != nil {
			continue
		}
		if reason := Probe(hook); reason != nil {
			return fmt.Errorf("%w (%w)", reason, err)
		}
	}
	return err
}

// try loads an empty program and attaches it.
func (k kind) try(hook, target string) error {
	spec := &ebpf.ProgramSpec{
		Name:         "nettap_probe",
		Type:         k.program,
		AttachType:   k.attach,
		Instructions: k.emptyProgram(),
		License:      "Dual BSD/GPL",
	}
	if k.program == ebpf.Tracing {
		spec.AttachTo = target
	}
	program, err := ebpf.NewProgram(spec)
	if err != nil {
		return err
	}
	defer program.Close()
	return k.attachEmpty(hook, target, program)
}

// emptyProgram does nothing, or where programs of its kind read kernel memory it
// reads a little, which lockdown forbids.
func (k kind) emptyProgram() asm.Instructions {
	var read asm.Instructions
	if k.reads {
		read = asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.RFP),
			asm.Add.Imm(asm.R1, -8),
			asm.Mov.Imm(asm.R2, 8),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnProbeReadKernel.Call(),
		}
	}
	return append(read, asm.Mov.Imm(asm.R0, 0), asm.Return())
}

// attachEmpty attaches the program for a moment.
func (k kind) attachEmpty(hook, target string, program *ebpf.Program) error {
	l, err := k.link(hook, target, program)
	if l == nil || err != nil {
		return err
	}
	return l.Close()
}

// link attaches the program, or returns nil for a cgroup's, which would need the cgroup.
func (k kind) link(hook, target string, program *ebpf.Program) (link.Link, error) {
	switch {
	case k.attach == ebpf.AttachTraceIter:
		return link.AttachIter(link.IterOptions{Program: program})
	case k.program == ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: program})
	case strings.HasPrefix(hook, "kprobe/"):
		return link.Kprobe(target, program, nil)
	case strings.HasPrefix(hook, "kretprobe/"):
		return link.Kretprobe(target, program, nil)
	}
	return nil, nil
}
