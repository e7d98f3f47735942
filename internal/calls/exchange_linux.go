// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

const exchangeByProbes = "kprobe/security_socket_sendmsg"

// exchangeLadder has the hooks by which it is seen what a program sends and reads, the best first. The function through
// which all calls send is __sock_sendmsg from Linux 6.6 and 6.1.57 on.
var exchangeLadder = []kernel.Hook{
	{Job: "exchange", Name: "tp_btf/sock_send_length", Programs: []string{bpfProgSeeSent, bpfProgSeeRead}},
	{Job: "exchange", Name: "fexit/__sock_sendmsg", Programs: []string{bpfProgSeeMessage}, Functions: []kernel.Function{{Name: "__sock_sendmsg"}}},
	{Job: "exchange", Name: "fexit/sock_sendmsg", Programs: []string{bpfProgSeeMessage}, Functions: []kernel.Function{{Name: "sock_sendmsg"}}},
	{
		Job: "exchange", Name: "fexit/tcp_sendmsg", Programs: []string{bpfProgSeeSentTcp, bpfProgSeeSendmsg, bpfProgSeeRecvmsg},
		NotSeen: "that there was no room for what was sent, but on TCP",
	},
	{
		Job: "exchange", Name: exchangeByProbes, Programs: []string{bpfProgSeeSendmsgProbe, bpfProgSeeRecvmsgProbe},
		NotSeen: "that there was no room for what was sent, and with which error a wait for an answer ended",
	},
}

// readAtFunction belongs to each hook of exchangeLadder that has one function for all that is sent.
var readAtFunction = kernel.Hook{Job: "exchange_read", Name: "fexit/sock_recvmsg", Programs: []string{bpfProgSeeRecvmsg}}

// isAtFunction reports whether the hook has one function for all that is sent.
func isAtFunction(hook kernel.Hook) bool {
	return slices.Equal(hook.Programs, []string{bpfProgSeeMessage})
}

// reaching returns a probe that refuses a function of exchangeLadder if not each call to send goes through it, or not each call
// to receive through that of readAtFunction. It passes other hooks to probe.
func reaching(probe func(hook string) error) func(hook string) error {
	return func(hook string) error {
		if !slices.ContainsFunc(exchangeLadder, func(h kernel.Hook) bool { return h.Name == hook && isAtFunction(h) }) {
			return probe(hook)
		}
		for _, name := range []string{hook, readAtFunction.Name} {
			if err := probe(name); err != nil {
				return err
			}
			if err := kernel.ProbeReach(name, roundTrips...); err != nil {
				return err
			}
		}
		return nil
	}
}

// roundTrips send and receive in each way that has functions of its own in net/socket.c.
var roundTrips = []kernel.Operation{
	roundTrip("write and read", unix.Write, unix.Read),
	roundTrip("sendto and recvfrom",
		func(fd int, message []byte) (int, error) { return 0, unix.Send(fd, message, 0) },
		func(fd int, message []byte) (int, error) { n, _, err := unix.Recvfrom(fd, message, 0); return n, err }),
	roundTrip("sendmsg and recvmsg",
		func(fd int, message []byte) (int, error) { return unix.SendmsgN(fd, message, nil, nil, 0) },
		func(fd int, message []byte) (int, error) {
			n, _, _, _, err := unix.Recvmsg(fd, message, nil, 0)
			return n, err
		}),
}

// roundTrip sends a byte over a new pair of sockets and receives it.
func roundTrip(name string, send, receive func(fd int, message []byte) (int, error)) kernel.Operation {
	return kernel.Operation{Name: name, Run: func() error {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		if _, err := send(pair[0], []byte{0}); err != nil {
			return err
		}
		_, err = receive(pair[1], make([]byte, 1))
		return err
	}}
}
