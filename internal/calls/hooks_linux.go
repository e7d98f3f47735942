// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/rewrite"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
)

// ladder has the hooks by which functions can be seen, the best first. Calls that block are the most
// interesting ones, so the ends of functions must be seen reliably. On a preemptible kernel, an
// fentry or fexit program is not run on a CPU where it is already running. So probes of many functions
// come before them. These are also attached all at once; see frequentFunctions for their disadvantage.
var ladder = []kernel.Hook{
	{Job: "call", Name: "kprobe.session", Programs: []string{bpfProgVisitFunction}},
	{Job: "call", Name: "kprobe.multi", Programs: []string{bpfProgEnterProbe}},
	{Job: "call", Name: "fentry.multi", Programs: []string{bpfProgEnterFunction}},
	{Job: "call", Name: "fentry", Programs: []string{bpfProgEnterFunction}},
	{Job: "call", Name: "kprobe", Programs: []string{bpfProgEnterProbe}, NotSeen: notSeenOfProbes},
	{Job: "call", Name: "tp_btf/sys_enter", Programs: []string{bpfProgEnterSyscall}, NotSeen: notSeenOfSyscalls},
}

const (
	notSeenOfProbes = "the end of a call, while many others wait in the same function: the kernel notes only so many of them; " +
		"counted as lost with cause unfinished"
	notSeenOfSyscalls = "the functions inside a call, only tracepoints; 32-bit system calls; calls of kernel threads and of io_uring's workers"
)

// exits has the hook that sees the end of a function, by the hook that sees its beginning.
var exits = map[string]kernel.Hook{
	"fentry.multi":     {Job: "call_end", Name: "fexit.multi", Programs: []string{bpfProgLeaveFunction}},
	"kprobe.multi":     {Job: "call_end", Name: "kretprobe.multi", Programs: []string{bpfProgLeaveProbe}},
	"fentry":           {Job: "call_end", Name: "fexit", Programs: []string{bpfProgLeaveFunction}},
	"kprobe":           {Job: "call_end", Name: "kretprobe", Programs: []string{bpfProgLeaveProbe}},
	"tp_btf/sys_enter": {Job: "call_end", Name: "tp_btf/sys_exit", Programs: []string{bpfProgLeaveSyscall}},
}

// always has the hooks that every rung needs: they see a thread wait, and to which peer it connects.
var always = []kernel.Hook{
	{Job: "off_cpu", Name: "tp_btf/sched_switch", Programs: []string{bpfProgSeeSwitch}},
	{Job: "wakeup", Name: "tp_btf/sched_wakeup", Programs: []string{bpfProgSeeWakeup}},
	{Job: "connection", Name: "tp_btf/inet_sock_set_state", Programs: []string{bpfProgSeeState}},
	{Job: "thread_end", Name: "tp_btf/sched_process_free", Programs: []string{bpfProgForgetThread}, Cause: selftest.Thread},
}

// chooseHooks returns the best hooks for calls that this kernel has. It also changes spec to have the
// programs for them, and makes the table of functions to which nodes refer. Hooks for ends are attached
// first, so that no call begins whose end would not be seen. If withoutWaits is not nil it says why
// waits are left out.
func (c *Calls) chooseHooks(spec *ebpf.CollectionSpec, types *btf.Spec, withoutWaits error) ([]kernel.Hook, error) {
	begin, err := chooseRung(c.options.AvoidHooks, types)
	if err != nil {
		return nil, err
	}
	hooks := slices.Clone(always)
	waits, err := c.waitHooks(&begin, withoutWaits)
	if err != nil {
		return nil, err
	}
	c.seesWaits = len(waits) > 0
	if c.seesWaits {
		replaceProgram(hooks, bpfProgSeeState, bpfProgSeeStateOfWaits)
	}
	end, apart := exits[begin.Name]
	if begin.Name == "tp_btf/sys_enter" {
		if c.seesWaits && !seesClosed(waits) {
			begin.Programs = []string{bpfProgEnterSyscallOfWaits}
		}
		c.emitter.functions = syscallTable()
		_, err := kernel.TracepointArgs(types, "sock_recv_length")
		return slices.Concat(hooks, merge(points(types), waits), []kernel.Hook{end, begin}, waits),
			errors.Join(spec.Variables[bpfVarWithPoints].Set(true), spec.Variables[bpfVarWithLengths].Set(err == nil))
	}
	functions, err := c.findFunctions(types, begin.Name)
	if err != nil {
		return nil, err
	}
	if begin.Name == "kprobe.session" {
		err = rewrite.SessionIsReturn(spec, types)
	}
	if isMulti(begin.Name) && kernel.Avoiding(c.options.AvoidHooks, kernel.Probe)("fentry") == nil {
		if frequent, rest := partFrequent(functions); len(frequent) > 0 && len(rest) > 0 {
			c.noteNames(slices.Concat(frequent, rest))
			hooks = append(hooks,
				kernel.Hook{Job: "frequent_call_end", Name: "fexit", Programs: []string{bpfProgLeaveFunction}, Functions: frequent},
				kernel.Hook{Job: "frequent_call", Name: "fentry", Programs: []string{bpfProgEnterFunction}, Functions: frequent})
			functions, begin.First, end.First = rest, len(frequent), len(frequent)
		}
	}
	ended := functions
	if begin.Name == "fentry" {
		var ends []kernel.Hook
		ends, waits, functions = joinEnds(waits, functions)
		c.noteNames(functions)
		hooks = append(hooks, ends...)
		ended, end.First = functions[len(ends):], len(ends)
	}
	copies := begin.Name == "kprobe" && !kernel.HasHelper(types, "get_attach_cookie")
	begin.Functions, begin.Copies = functions, copies
	end.Functions, end.Copies = ended, copies
	if apart && len(ended) > 0 {
		hooks = append(hooks, end)
	}
	// Of the programs at the end of a function, the one that was attached last runs first. The hooks
	// for waits are last, because a call by io_uring may end with the function that they observe.
	return slices.Concat(hooks, []kernel.Hook{begin}, waits), err
}

// SeesSystemCalls reports whether the best hooks for calls are those of system calls, if some hooks are avoided.
func SeesSystemCalls(avoid []string) (bool, error) {
	types, err := kernel.Types()
	if err != nil {
		return false, err
	}
	begin, err := chooseRung(avoid, types)
	if errors.Is(err, kernel.ErrUnsupported) {
		return false, nil
	}
	return begin.Name == "tp_btf/sys_enter", err
}

func chooseRung(avoid []string, types *btf.Spec) (kernel.Hook, error) {
	return kernel.Choose(kernel.Avoiding(avoid, func(hook string) error { return probe(hook, types) }), ladder...)
}

// replaceProgram replaces one program of the hooks with another one, and reports whether a hook has it.
func replaceProgram(hooks []kernel.Hook, program, other string) bool {
	for i, hook := range hooks {
		if at := slices.Index(hook.Programs, program); at >= 0 {
			hooks[i].Programs = slices.Clone(hook.Programs)
			hooks[i].Programs[at] = other
			return true
		}
	}
	return false
}

// isMulti reports whether a hook is a probe that is attached to many functions at once.
func isMulti(hook string) bool { return hook == "kprobe.session" || hook == "kprobe.multi" }

// frequentFunctions are functions that most calls and each connection go through, and those of passes,
// as a probe at the end of a function does not show what that was passed. A trampoline (fentry) takes a
// third of the time of a probe at each call, but attaching one takes long. So these have trampolines,
// and all other functions have probes if the kernel can attach them to many at once.
var frequentFunctions = []string{
	"sock_write_iter", "sock_read_iter", "sock_recvmsg", "__sys_sendto", "__sys_recvfrom", "____sys_sendmsg", "____sys_recvmsg", "sock_poll",
	"__sys_socket", "__sock_create", "sock_alloc", "sock_alloc_inode", "sock_alloc_file",
	"__sys_connect", "__sys_connect_file", "__sys_accept4", "do_accept", "sock_close", "__sock_release",
	"sock_sendmsg", "__sock_sendmsg", "__sys_sendmsg_sock", "__sys_bind_socket",
}

// passes has what functions are passed with which calls of io_uring and of the kernel itself begin.
//
// Source: io_uring/net.c, net/socket.c.
var passes = map[string]bpfPasses{
	"__sys_connect_file": bpfPassesPASSES_FILE_AND_ADDRESS,
	"__sys_bind_socket":  bpfPassesPASSES_SOCKET_AND_ADDRESS,
	"sock_sendmsg":       bpfPassesPASSES_SOCKET_AND_MESSAGE,
	"__sys_sendmsg_sock": bpfPassesPASSES_SOCKET_AND_MESSAGE,
	"____sys_sendmsg":    bpfPassesPASSES_SOCKET_AND_MESSAGE,
}

// inner are functions that no system call begins with: another one of the functions calls them. Calls of io_uring and of the
// kernel itself may begin with them.
//
// Source: net/socket.c.
var inner = []string{
	"sock_recvmsg", "sock_sendmsg", "__sock_sendmsg", "__sock_create", "sock_alloc", "sock_alloc_inode", "sock_alloc_file", "do_accept",
	"__sys_connect_file",
}

// ordinary are functions that may sleep, so that no interrupt calls them, and that only io_uring calls as work that is
// deferred until a system call has returned. What closes a socket is not among them.
//
// Source: net/socket.c, task_work_add.
var ordinary = []string{
	"sock_write_iter", "sock_read_iter", "sock_recvmsg", "__sys_sendto", "__sys_recvfrom", "____sys_sendmsg", "____sys_recvmsg",
}

// These follow the bits of [passes] in a function's tag.
//
// Kernel side: TRAIT_INNER and TRAIT_ORDINARY in bpf/calls.bpf.c.
const (
	isInner    = 1 << 2
	isOrdinary = 1 << 3
)

// traits returns what the programs are to know of a function beside its type and [passes].
func traits(name string) (tag uint8) {
	if slices.Contains(inner, name) {
		tag |= isInner
	}
	if slices.Contains(ordinary, name) {
		tag |= isOrdinary
	}
	return tag
}

// partFrequent parts functions into those that are called most often and the rest.
func partFrequent(functions []kernel.Function) (frequent, rest []kernel.Function) {
	for _, f := range functions {
		if slices.Contains(frequentFunctions, f.Name) && canSee("fentry", f) {
			frequent = append(frequent, f)
		} else {
			rest = append(rest, f)
		}
	}
	return frequent, rest
}

// probe is [kernel.Probe] of a hook for the beginning of a function, and of the one for its end.
func probe(hook string, types *btf.Spec) error {
	if (hook == "kprobe.session" || hook == "kprobe.multi") && kernel.ExitsFromPool(types) {
		return fmt.Errorf("%s: this kernel notes only so many calls whose end is to be seen: %w", hook, kernel.ErrUnsupported)
	}
	if err := kernel.Probe(hook); err != nil {
		return err
	}
	if end, ok := exits[hook]; ok {
		return kernel.Probe(end.Name)
	}
	return nil
}

// findFunctions returns the functions that the options name and the hook can see, and makes the
// table of their names.
func (c *Calls) findFunctions(types *btf.Spec, hook string) ([]kernel.Function, error) {
	if err := kernel.RequireSymbols(); err != nil {
		return nil, err
	}
	symbols, err := kernel.RunningSymbols()
	if err != nil {
		return nil, err
	}
	functions, err := chooseFunctions(c.options.Functions, symbols, func(name string) (kernel.Function, error) {
		f, err := kernel.FunctionType(types, name)
		f.Tag = uint8(passes[name]) | traits(name)
		return f, err
	})
	if err != nil {
		return nil, err
	}
	functions = slices.DeleteFunc(functions, func(f kernel.Function) bool { return !canSee(hook, f) })
	c.noteNames(functions)
	return functions, nil
}

// noteNames makes the table of functions to which the numbers of nodes refer.
func (c *Calls) noteNames(functions []kernel.Function) {
	c.emitter.functions = nil
	for _, f := range functions {
		c.emitter.functions = append(c.emitter.functions, function{name: f.Name, fails: f.Result != kernel.ResultNone})
	}
}

// canSee reports whether a hook can see a function, as far as its type says. If one program
// cannot be loaded for its function, none of the programs is loaded.
func canSee(hook string, f kernel.Function) bool {
	switch hook {
	case "fentry.multi":
		return f.Type != 0 || f.Twin != 0
	case "fentry":
		return f.Type != 0 && (!f.Structs || kernel.ProbeFunction(f.Name) == nil)
	}
	return true
}
