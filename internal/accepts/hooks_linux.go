// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
	"github.com/seed-7756021b/nettap/internal/places"
)

// ladder has the ways to see accepts, the best one first. If functions can be traced or probed,
// other system calls cost nothing.
var ladder = []kernel.Hook{
	{Job: "accept", Name: "fentry/security_sock_graft", Programs: []string{bpfProgSeeGraft}, Cause: selftest.Accepts},
	{Job: "accept", Name: "kprobe/security_sock_graft", Programs: []string{bpfProgProbeGraft}, Cause: selftest.Accepts},
	{
		Job: "accept", Name: "tp_btf/sys_exit", Programs: []string{bpfProgSeeSyscall}, Cause: selftest.Accepts,
		NotSeen: "a connection that another thread closes before the accept returns, which is counted as lost; the accept queue in a 32-bit socketcall",
	},
}

// SeesSystemCalls reports whether the best hook for accepts is that of system calls, if some hooks are avoided.
func SeesSystemCalls(avoid []string) (bool, error) {
	accept, err := kernel.Choose(kernel.Avoiding(avoid, kernel.Probe), ladder...)
	if errors.Is(err, kernel.ErrUnsupported) {
		return false, nil
	}
	return accept.Name == places.Exit, err
}

// chooseHooks returns the best hooks for accepts that probe does not refuse, and adapts spec to
// them.
func chooseHooks(probe func(hook string) error, types *btf.Spec, spec *ebpf.CollectionSpec) ([]kernel.Hook, error) {
	accept, err := kernel.Choose(probe, ladder...)
	if err != nil {
		return nil, err
	}
	switch kind, _, _ := strings.Cut(accept.Name, "/"); kind {
	case "fentry":
		return append([]kernel.Hook{accept}, tracedListener(types)...), nil
	case "kprobe":
		return []kernel.Hook{accept, {
			Job: "accept_queue", Name: "kprobe/inet_csk_accept", Programs: []string{bpfProgNoteAcceptFrom},
			Cause: selftest.Accepts, NotSeen: notSeenOfQueue,
		}}, nil
	}
	uring, err := uringHooks(types, spec)
	if err != nil {
		return nil, err
	}
	if len(uring) == 0 {
		accept.NotSeen = "accepts through io_uring, before Linux 6.0; " + accept.NotSeen
	}
	return append(uring, accept), nil
}

const notSeenOfQueue = "the accept queue of a thread that waited in accept before the start"

// tracedListener returns the hooks that see the listener, and so its accept queue. They are
// attached last, so that no listener is remembered for an accept that is not seen.
func tracedListener(types *btf.Spec) []kernel.Hook {
	const function = "inet_csk_accept"
	program := map[int]string{
		2: bpfProgNoteAcceptOf,
		4: bpfProgNoteAcceptOfOld, // before Linux 6.10
	}[argumentsOf(types, function)]
	if program == "" {
		return nil
	}
	return []kernel.Hook{{
		Job: "accept_queue", Name: "fexit/" + function, Programs: []string{program},
		Cause: selftest.Accepts, NotSeen: notSeenOfQueue,
	}}
}

// uringHooks returns the hooks for accepts through io_uring, from Linux 6.0 on, if its tracepoints
// tell which request they are about.
func uringHooks(types *btf.Spec, spec *ebpf.CollectionSpec) ([]kernel.Hook, error) {
	submit := "io_uring_submit_req"
	if !hasTracepoint(types, submit, 1) {
		submit = "io_uring_submit_sqe" // before Linux 6.4
	}
	hasEntry := hasTracepoint(types, "io_uring_complete", 3) // before Linux 6.13 it passed the entry's fields
	if !hasEntry && !hasTracepoint(types, "io_uring_complete", 7) ||
		!hasTracepoint(types, "io_uring_task_add", 2) ||
		!hasTracepoint(types, submit, 1) && !hasTracepoint(types, submit, 2) {
		return nil, nil
	}
	if err := spec.Variables[bpfVarCompleteHasCqe].Set(hasEntry); err != nil {
		return nil, fmt.Errorf("set complete_has_cqe: %w", err)
	}
	submission := spec.Programs[bpfProgNoteSubmission]
	submission.AttachTo, submission.SectionName = submit, "tp_btf/"+submit
	return []kernel.Hook{{
		Job: "io_uring_accept", Name: "tp_btf/io_uring_complete",
		Programs: []string{bpfProgNoteSubmission, bpfProgNoteWakeup, bpfProgSeeCompletion}, Cause: selftest.Uring,
	}}, nil
}

func hasTracepoint(types *btf.Spec, name string, arguments int) bool {
	found, err := kernel.TracepointArgs(types, name)
	return err == nil && found == arguments
}

// argumentsOf returns how many arguments a function of the kernel takes, or 0 if its BTF does not
// tell.
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
