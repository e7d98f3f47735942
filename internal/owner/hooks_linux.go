// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
)

// choice has the hooks that show which process uses a socket.
type choice struct {
	hooks []kernel.Hook
	early bool     // hooks tell of calls when they begin
	ends  bool     // and others, on sockets that processes share, when calls have ended
	users bool     // kprobes tell who uses a socket
	sees  []string // variables of the programs to be set
}

// choose returns the best of them that probe does not refuse. What is not seen because programs do not reach far enough
// is said with the hook that shows who uses a socket.
func choose(probe func(hook string) error, r reach) (choice, error) {
	learns, err := kernel.Choose(probe, ladder...)
	if err != nil {
		return choice{}, err
	}
	sender, err := kernel.Choose(probe, senders...)
	if err != nil {
		return choice{}, err
	}
	c := choice{early: learns.Name != ladder[0].Name, users: strings.HasPrefix(learns.Name, "kprobe/")}
	if err := errors.Join(c.addSharing(probe, &learns), c.addDeeds(probe, &learns)); err != nil {
		return choice{}, err
	}
	r.limit(&learns)
	c.hooks = append(c.hooks, learns, sender)
	return c, nil
}

// addSharing adds the hooks that show, on a socket that several processes use in turn, what learns
// sees too late or too early.
func (c *choice) addSharing(probe func(hook string) error, learns *kernel.Hook) error {
	needed := sharing[learns.Name]
	var hooks []kernel.Hook
	for _, hook := range needed.hooks {
		hook, err := kernel.Choose(probe, hook)
		if errors.Is(err, kernel.ErrUnsupported) {
			learns.Refused = append(learns.Refused, err.Error())
			learns.DoesNotSee(needed.what)
			return nil
		}
		if err != nil {
			return err
		}
		hooks = append(hooks, hook)
	}
	c.hooks = append(c.hooks, hooks...)
	c.ends = c.early
	return nil
}

// addDeeds adds the hooks that show what a call has moved, and to what learns does not see
// what cannot be seen by them.
func (c *choice) addDeeds(probe func(hook string) error, learns *kernel.Hook) error {
	for _, deed := range deeds[learns.Name] {
		hook, err := kernel.Choose(probe, deed.hook)
		if errors.Is(err, kernel.ErrUnsupported) {
			learns.Refused = append(learns.Refused, err.Error())
			learns.DoesNotSee("that a call to " + deed.what + " moved nothing, if it may wait")
			continue
		}
		if err != nil {
			return err
		}
		c.hooks = append(c.hooks, hook)
		c.sees = append(c.sees, deed.variable)
	}
	return nil
}

// withoutDeeds returns probe, but with a refusal of all hooks that show what a call has
// moved, one of which did not fire.
func withoutDeeds(probe func(hook string) error, silent error) func(hook string) error {
	refused := map[string]bool{}
	for _, rung := range deeds {
		for _, deed := range rung {
			refused[deed.hook.Name] = true
		}
	}
	return func(hook string) error {
		if refused[hook] {
			return fmt.Errorf("%s: %w", hook, silent)
		}
		return probe(hook)
	}
}

// ladder has the hooks that show which process uses a socket, the best one first.
var ladder = []kernel.Hook{
	{Job: "owner", Name: "tp_btf/sock_send_length", Programs: []string{bpfProgLearnFromSend, bpfProgLearnFromReceive}},
	{
		Job: "owner", Name: "fentry/security_socket_sendmsg", Programs: []string{bpfProgLearnFromSendmsg, bpfProgLearnFromRecvmsg},
		NotSeen: "that a call to send by anything but plain TCP moved nothing, until processes share a socket: it is taken for a use of its socket",
	},
	{
		Job: "owner", Name: "kprobe/security_socket_sendmsg", Programs: []string{bpfProgNoteSendmsg, bpfProgNoteRecvmsg},
		NotSeen: "a new user of a socket, until the next packet or collection; " +
			"that a call to send by anything but plain TCP, or one to receive by MPTCP, SCTP, kTLS or a sockmap that may wait, moved nothing, " +
			"until processes share a socket: it is taken for a use of its socket; " +
			"that a call waited for data and came to the end of a TCP connection",
	},
}

// senders has the hooks that show which process is still sending, the best one first.
var senders = []kernel.Hook{
	{Job: "sender", Name: "tp_btf/tcp_sendmsg_locked", Programs: []string{bpfProgLearnFromMessage}},
	{Job: "sender", Name: "tp_btf/net_dev_queue", Programs: []string{bpfProgLearnFromQueue}},
}

// sharing has the hooks that are attached if several processes use a socket in turn, and what is not
// known without them, by the rung of the ladder that they complete.
var sharing = map[string]struct {
	what  string
	hooks []kernel.Hook
}{
	"tp_btf/sock_send_length": {"which process sends first after another one on a socket of datagrams that both use", []kernel.Hook{
		{Job: ofShared, Name: "tp_btf/net_dev_queue", Programs: []string{bpfProgLearnFromDatagram}, Later: true},
	}},
	"fentry/security_socket_sendmsg": {"that a call to send failed on a socket that processes share", []kernel.Hook{
		{Job: ofShared, Name: "fexit/inet_sendmsg", Programs: []string{bpfProgEndSend4}, Later: true},
		{Job: ofShared, Name: "fexit/inet6_sendmsg", Programs: []string{bpfProgEndSend6}, Later: true},
	}},
	"kprobe/security_socket_sendmsg": {"that a call failed on a socket that processes share", []kernel.Hook{
		{Job: ofShared, Name: "tp_btf/sys_exit", Programs: []string{bpfProgEndCall}, Later: true},
	}},
}

const ofShared = "shared_sockets"

// deed is a hook that only a call reaches which has moved something.
type deed struct {
	what, variable string
	hook           kernel.Hook
}

// deeds has them by the rung of the ladder that tells of calls before they are made.
var deeds = map[string][]deed{
	"fentry/security_socket_sendmsg": {
		{"send by TCP", bpfVarSeesSent, kernel.Hook{Job: "segments_sent", Name: "fentry/tcp_push", Programs: []string{bpfProgLearnFromPush}}},
	},
	"kprobe/security_socket_sendmsg": {
		{"send by TCP", bpfVarSeesSent, kernel.Hook{Job: "segments_sent", Name: "kprobe/tcp_push", Programs: []string{bpfProgNotePush}}},
		{"receive by TCP", bpfVarSeesSegments, kernel.Hook{
			Job: "segments_received", Name: "tp_btf/tcp_rcv_space_adjust", Programs: []string{bpfProgNoteSegments}, Cause: selftest.Receipts,
		}},
		{"receive by UDP", bpfVarSeesDatagrams, kernel.Hook{
			Job: "datagrams_received", Name: "kprobe/skb_consume_udp", Programs: []string{bpfProgNoteDatagram},
		}},
		{"receive on raw and packet sockets", bpfVarSeesPackets, kernel.Hook{
			Job: "packets_received", Name: "kprobe/skb_free_datagram", Programs: []string{bpfProgNotePacket}, Cause: selftest.Receipts,
		}},
	},
}

// hooks are the other hooks, which every kernel has. Those that see the end of a socket come
// first, so that everything that is learned is forgotten again.
var hooks = []kernel.Hook{
	{Job: "socket_closed", Name: "cgroup/sock_release", Programs: []string{bpfProgSettleAtRelease}},
	{Job: "connection_closed", Name: "tp_btf/tcp_destroy_sock", Programs: []string{bpfProgSettleAtDestroy}},
	{Job: "connection_state", Name: "tp_btf/inet_sock_set_state", Programs: []string{bpfProgLearnFromState}},
	{Job: "process_end", Name: "tp_btf/sched_process_exit", Programs: []string{bpfProgNoteEnd}, Cause: selftest.Thread},
	{Job: "socket_made", Name: "cgroup/sock_create", Programs: []string{bpfProgLearnFromCreate}},
}
