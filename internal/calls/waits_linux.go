// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"fmt"
	"slices"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// readyLadder has the hooks by which it is seen that there is something to read, the best first.
var readyLadder = []kernel.Hook{
	{Job: "ready", Name: "tp_btf/sk_data_ready", Programs: []string{bpfProgSeeReady}},
	{Job: "ready", Name: "fentry/sock_def_readable", Programs: []string{bpfProgSeeReadable}},
	{Job: "ready", Name: "kprobe/sock_def_readable", Programs: []string{bpfProgSeeReadableProbe}},
}

// closedLadder has the hooks by which it is seen that a program closes a socket, the best first. If calls are seen by the
// system calls, the program for these does it instead.
var closedLadder = []kernel.Hook{
	{Job: "closed", Name: "fentry/inet_release", Programs: []string{bpfProgSeeClosed}},
	{Job: "closed", Name: "kprobe/inet_release", Programs: []string{bpfProgSeeClosedProbe}},
}

// chooseWaitHooks returns the best hooks for waits that this kernel has.
func chooseWaitHooks(probe func(hook string) error) ([]kernel.Hook, error) {
	if err := kernel.ProbeSocketStorage(); err != nil {
		return nil, err
	}
	exchange, err := kernel.Choose(reaching(probe), exchangeLadder...)
	if err != nil {
		return nil, err
	}
	ready, err := kernel.Choose(probe, readyLadder...)
	if err != nil {
		return nil, err
	}
	hooks := []kernel.Hook{ready, exchange}
	if isAtFunction(exchange) {
		hooks = append(hooks, readAtFunction)
	}
	closed, err := kernel.Choose(probe, closedLadder...)
	if errors.Is(err, kernel.ErrUnsupported) {
		return hooks, nil
	}
	return append(hooks, closed), err
}

// seesClosed reports whether one of the hooks sees that a program closes a socket.
func seesClosed(hooks []kernel.Hook) bool {
	return slices.ContainsFunc(hooks, func(hook kernel.Hook) bool { return hook.Job == closedLadder[0].Job })
}

// joined has, by a program for waits at the end of a function, one that ends the function in the trees of calls as well.
var joined = map[string]string{
	bpfProgSeeMessage: bpfProgLeaveMessage,
	bpfProgSeeRecvmsg: bpfProgLeaveRecvmsg,
}

// joinEnds finds the hooks for waits that are at the end of one of the functions. It returns these with a program that
// also does what the end of the function needs, then the other hooks for waits, and the functions with theirs first.
func joinEnds(waits []kernel.Hook, functions []kernel.Function) (ends, apart []kernel.Hook, ordered []kernel.Function) {
	ordered = slices.Clone(functions)
	for _, hook := range waits {
		first := len(ends)
		at := slices.IndexFunc(ordered, func(f kernel.Function) bool { return hook.Name == "fexit/"+f.Name })
		program := joined[hook.Programs[0]]
		if at < 0 || program == "" {
			apart = append(apart, hook)
			continue
		}
		ordered[first], ordered[at] = ordered[at], ordered[first]
		hook.Programs, hook.Functions, hook.First = []string{program}, ordered[first:first+1], first
		ends = append(ends, hook)
	}
	return ends, apart, ordered
}

// waitHooks returns the hooks for waits. If there are none, because this kernel has none or for the
// reason in without, it adds that to what begin does not see.
func (c *Calls) waitHooks(begin *kernel.Hook, without error) ([]kernel.Hook, error) {
	if !c.options.Waits {
		return nil, nil
	}
	waits, err := []kernel.Hook(nil), without
	if without == nil {
		waits, err = chooseWaitHooks(kernel.Avoiding(c.options.AvoidHooks, kernel.Probe))
		if err != nil && !errors.Is(err, kernel.ErrUnsupported) {
			return nil, err
		}
	}
	if err != nil {
		begin.Faulty = without != nil
		begin.DoesNotSee(fmt.Sprintf("waits that are of no one call, as they cannot be seen here (%v)", err))
	}
	return waits, nil
}
