// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"fmt"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

const exchangeByProbes = "kprobe/security_socket_sendmsg"

// exchangeLadder has the hooks by which it is seen what a program sends and reads, the best first.
var exchangeLadder = []kernel.Hook{
	{Job: "exchange", Name: "tp_btf/sock_send_length", Programs: []string{bpfProgSeeSent, bpfProgSeeRead}},
	{
		Job: "exchange", Name: "fexit/tcp_sendmsg", Programs: []string{bpfProgSeeSentTcp, bpfProgSeeSendmsg, bpfProgSeeRecvmsg},
		NotSeen: "that there was no room for what was sent, but on TCP",
	},
	{
		Job: "exchange", Name: exchangeByProbes, Programs: []string{bpfProgSeeSendmsgProbe, bpfProgSeeRecvmsgProbe},
		NotSeen: "that there was no room for what was sent, and with which error a wait for an answer ended",
	},
}

// readyLadder has the hooks by which it is seen that there is something to read, the best first.
var readyLadder = []kernel.Hook{
	{Job: "ready", Name: "tp_btf/sk_data_ready", Programs: []string{bpfProgSeeReady}},
	{Job: "ready", Name: "fentry/sock_def_readable", Programs: []string{bpfProgSeeReadable}},
	{Job: "ready", Name: "kprobe/sock_def_readable", Programs: []string{bpfProgSeeReadableProbe}},
}

// chooseWaitHooks returns the best hooks for waits that this kernel has.
func chooseWaitHooks(probe func(hook string) error) ([]kernel.Hook, error) {
	if err := kernel.ProbeSocketStorage(); err != nil {
		return nil, err
	}
	exchange, err := kernel.Choose(probe, exchangeLadder...)
	if err != nil {
		return nil, err
	}
	ready, err := kernel.Choose(probe, readyLadder...)
	if err != nil {
		return nil, err
	}
	return []kernel.Hook{ready, exchange}, nil
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
