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

// ladder is how functions are seen, the best way first. Calls that block are the
// ones that are looked for, so what counts is that their ends are seen. On a kernel
// that can be preempted, fentry and fexit are not run where another run of them was:
// so probes of many functions come before them, which also are attached at once, but
// see frequentFunctions.
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

// exits is what sees the end of a function, by what sees its beginning.
var exits = map[string]kernel.Hook{
	"fentry.multi":     {Job: "call_end", Name: "fexit.multi", Programs: []string{bpfProgLeaveFunction}},
	"kprobe.multi":     {Job: "call_end", Name: "kretprobe.multi", Programs: []string{bpfProgLeaveProbe}},
	"fentry":           {Job: "call_end", Name: "fexit", Programs: []string{bpfProgLeaveFunction}},
	"kprobe":           {Job: "call_end", Name: "kretprobe", Programs: []string{bpfProgLeaveProbe}},
	"tp_btf/sys_enter": {Job: "call_end", Name: "tp_btf/sys_exit", Programs: []string{bpfProgLeaveSyscall}},
}

// always is what sees a thread wait, and with whom it connects.
var always = []kernel.Hook{
	{Job: "off_cpu", Name: "tp_btf/sched_switch", Programs: []string{bpfProgSeeSwitch}},
	{Job: "wakeup", Name: "tp_btf/sched_wakeup", Programs: []string{bpfProgSeeWakeup}},
	{Job: "connection", Name: "tp_btf/inet_sock_set_state", Programs: []string{bpfProgSeeState}},
	{Job: "thread_end", Name: "tp_btf/sched_process_free", Programs: []string{bpfProgForgetThread}, Cause: selftest.Thread},
}

// chooseHooks returns the best way to see calls that this kernel has, fits spec to
// it, and makes the table of what the nodes' numbers stand for. What sees an end is
// attached first, so that no call is begun whose end nobody sees. withoutWaits says why no
// waits are to be seen, if it is not nil.
func (c *Calls) chooseHooks(spec *ebpf.CollectionSpec, types *btf.Spec, withoutWaits error) ([]kernel.Hook, error) {
	begin, err := kernel.Choose(kernel.Avoiding(c.options.AvoidHooks, func(hook string) error { return probe(hook, types) }), ladder...)
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
		c.emitter.functions = syscallTable()
		_, err := kernel.TracepointArgs(types, "sock_recv_length")
		return slices.Concat(hooks, points(types), []kernel.Hook{end, begin}, waits),
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
	copies := begin.Name == "kprobe" && !kernel.HasHelper(types, "get_attach_cookie")
	for _, hook := range []*kernel.Hook{&begin, &end} {
		hook.Functions, hook.Copies = functions, copies
	}
	if apart {
		hooks = append(hooks, end)
	}
	// What was attached last at the end of a function runs first: an io_uring's call may be
	// over with the function that tells what was read.
	return slices.Concat(hooks, []kernel.Hook{begin}, waits), errors.Join(err, spec.Variables[bpfVarProbesWithCookies].Set(!copies),
		spec.Variables[bpfVarWithCookies].Set(begin.Name == "fentry.multi"))
}

// replaceProgram has another program in place of one.
func replaceProgram(hooks []kernel.Hook, program, other string) {
	for i, hook := range hooks {
		if slices.Contains(hook.Programs, program) {
			hooks[i].Programs = []string{other}
		}
	}
}

// isMulti says whether a hook takes a probe of many functions.
func isMulti(hook string) bool { return hook == "kprobe.session" || hook == "kprobe.multi" }

// frequentFunctions are those that most calls go through, and each connection. Programs
// that they call themselves take a third of what probes do, but to attach them takes long
// for each function: all others have probes where these can be had for many at once.
var frequentFunctions = []string{
	"sock_write_iter", "sock_read_iter", "sock_recvmsg", "__sys_sendto", "__sys_recvfrom", "____sys_sendmsg", "____sys_recvmsg", "sock_poll",
	"__sys_socket", "__sock_create", "sock_alloc", "sock_alloc_inode", "sock_alloc_file",
	"__sys_connect", "__sys_connect_file", "__sys_accept4", "do_accept", "sock_close", "__sock_release",
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

// probe is [kernel.Probe] of what sees the beginning of a function, and its end.
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

// findFunctions returns the functions that the options name and the hook can see,
// and notes their names.
func (c *Calls) findFunctions(types *btf.Spec, hook string) ([]kernel.Function, error) {
	if err := kernel.RequireSymbols(); err != nil {
		return nil, err
	}
	symbols, err := kernel.RunningSymbols()
	if err != nil {
		return nil, err
	}
	functions, err := chooseFunctions(c.options.Functions, symbols, func(name string) (kernel.Function, error) {
		return kernel.FunctionType(types, name)
	})
	if err != nil {
		return nil, err
	}
	functions = slices.DeleteFunc(functions, func(f kernel.Function) bool { return !canSee(hook, f) })
	c.noteNames(functions)
	return functions, nil
}

// noteNames makes the table of what the nodes' numbers stand for.
func (c *Calls) noteNames(functions []kernel.Function) {
	c.emitter.functions = nil
	for _, f := range functions {
		c.emitter.functions = append(c.emitter.functions, function{name: f.Name, fails: f.Result != kernel.ResultNone})
	}
}

// canSee says whether a function can be seen by a hook, as far as its type tells. A
// program for one that cannot would fail the load of all.
func canSee(hook string, f kernel.Function) bool {
	switch hook {
	case "fentry.multi":
		return f.Type != 0 || f.Twin != 0
	case "fentry":
		return f.Type != 0 && (!f.Structs || kernel.ProbeFunction(f.Name) == nil)
	}
	return true
}
