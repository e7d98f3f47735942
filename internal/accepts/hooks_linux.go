package accepts

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// hooks is one way to see accepts.
type hooks struct {
	programs  []string          // the programs it takes, in the order to attach them
	jobs      map[string]string // what is seen -> by which hook, for people
	constants map[string]any    // what the programs must know of this kernel
	targets   map[string]string // where a program goes that is not as its section says
}

// chooseHooks returns the best way to see accepts that this kernel offers.
//
// Where functions can be traced, other system calls cost nothing. Tracing the
// exit of all system calls shows the same, but accepts through io_uring are not
// among them.
func (a *Accepts) chooseHooks() (hooks, error) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return hooks{}, fmt.Errorf("load the kernel's BTF: %w", err)
	}
	const graft = "fentry/security_sock_graft" // absent without CONFIG_SECURITY_NETWORK
	if a.probe(graft) == nil {
		functions := hooks{
			programs: []string{"see_graft"},
			jobs:     map[string]string{"accept": graft},
		}
		return functions.withListener(types), nil
	}
	syscalls := hooks{
		programs: []string{"see_syscall"},
		jobs:     map[string]string{"accept": "tp_btf/sys_exit"},
	}
	return syscalls.withUring(types), nil
}

// withListener adds what sees the listener, and with it the accept queue. It is
// attached last, so that no listener is remembered that no accept takes.
func (h hooks) withListener(types *btf.Spec) hooks {
	const function = "inet_csk_accept"
	switch argumentsOf(types, function) {
	case 2:
		h.programs = append(h.programs, "note_accept_of")
	case 4: // before Linux 6.10
		h.programs = append(h.programs, "note_accept_of_old")
	default:
		return h
	}
	h.jobs["accept_queue"] = "fexit/" + function
	return h
}

// withUring adds what sees accepts through io_uring, from Linux 6.0 on, where its
// tracepoints tell which request they are about.
func (h hooks) withUring(types *btf.Spec) hooks {
	submit := "io_uring_submit_req"
	if !hasTracepoint(types, submit, 1) {
		submit = "io_uring_submit_sqe" // before Linux 6.4
	}
	hasEntry := hasTracepoint(types, "io_uring_complete", 3) // before Linux 6.13 it passed the entry's fields
	if !hasEntry && !hasTracepoint(types, "io_uring_complete", 7) ||
		!hasTracepoint(types, "io_uring_task_add", 2) ||
		!hasTracepoint(types, submit, 1) && !hasTracepoint(types, submit, 2) {
		return h
	}
	h.programs = append([]string{"note_submission", "note_wakeup", "see_completion"}, h.programs...)
	h.jobs["io_uring_accept"] = "tp_btf/io_uring_complete"
	h.constants = map[string]any{"complete_has_cqe": hasEntry}
	h.targets = map[string]string{"note_submission": submit}
	return h
}

// apply leaves in spec only what these hooks take.
func (h hooks) apply(spec *ebpf.CollectionSpec) error {
	programs := make(map[string]*ebpf.ProgramSpec)
	for _, name := range h.programs {
		programs[name] = spec.Programs[name]
		if target := h.targets[name]; target != "" {
			programs[name].AttachTo = target
			programs[name].SectionName = "tp_btf/" + target
		}
	}
	spec.Programs = programs
	for name, value := range h.constants {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func hasTracepoint(types *btf.Spec, name string, arguments int) bool {
	found, err := kernel.TracepointArgs(types, name)
	return err == nil && found == arguments
}

// argumentsOf returns how many arguments a function of the kernel takes, or 0
// when its BTF does not say.
func argumentsOf(types *btf.Spec, function string) int {
	var f *btf.Func
	if err := types.TypeByName(function, &f); err != nil {
		return 0
	}
	prototype, ok := f.Type.(*btf.FuncProto)
	if !ok {
		return 0
	}
	return len(prototype.Params)
}
