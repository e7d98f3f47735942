// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// TestChoose requires, for kernels whose hooks run before a call is made, that further hooks show what the call has moved,
// or that the hook says that this is not seen.
func TestChoose(t *testing.T) {
	const (
		traced, probed, sender           = "fentry/security_socket_sendmsg", "kprobe/security_socket_sendmsg", "tp_btf/tcp_sendmsg_locked"
		push, segment, datagram, message = "kprobe/tcp_push", "tp_btf/tcp_rcv_space_adjust", "kprobe/skb_consume_udp", "kprobe/skb_free_datagram"
	)
	for name, test := range map[string]struct {
		avoid       []string
		hooks, sees []string
		notSeen     string // by the one before the last
		ends        bool   // calls that fail are seen on sockets that processes share
		reach       reach
	}{
		"a kernel that tells what a call has moved": {
			hooks: []string{"tp_btf/net_dev_queue", "tp_btf/sock_send_length", sender},
		},
		"one on which files show sockets that cannot be changed": {
			reach:   reach{files: kernel.ErrUnsupported},
			hooks:   []string{"tp_btf/net_dev_queue", "tp_btf/sock_send_length", sender},
			notSeen: "that a process has executed a program or changed its user, until it uses its socket again",
		},
		"one where a packet must not be looked at as it is queued": {
			avoid:   []string{"tp_btf/net_dev_queue"},
			hooks:   []string{"tp_btf/sock_send_length", sender},
			notSeen: "which process sends first after another one on a socket of datagrams that both use",
		},
		"one before": {
			avoid: []string{"tp_btf/sock_send_length"},
			hooks: []string{"fexit/inet_sendmsg", "fexit/inet6_sendmsg", "fentry/tcp_push", traced, sender},
			sees:  []string{bpfVarSeesSent}, notSeen: ladder[1].NotSeen, ends: true,
		},
		"one before, without IPv6": {
			avoid: []string{"tp_btf/sock_send_length", "fexit/inet6_sendmsg"},
			hooks: []string{"fentry/tcp_push", traced, sender},
			sees:  []string{bpfVarSeesSent}, notSeen: ladder[1].NotSeen + "; that a call to send failed on a socket that processes share",
		},
		"one that can only be probed": {
			avoid: []string{"tp_btf/sock_send_length", "fentry"},
			hooks: []string{"tp_btf/sys_exit", push, segment, datagram, message, probed, sender},
			sees:  []string{bpfVarSeesSent, bpfVarSeesSegments, bpfVarSeesDatagrams, bpfVarSeesPackets}, notSeen: ladder[2].NotSeen, ends: true,
		},
		"one without a function of UDP": {
			avoid: []string{"tp_btf/sock_send_length", "fentry", datagram},
			hooks: []string{"tp_btf/sys_exit", push, segment, message, probed, sender}, sees: []string{bpfVarSeesSent, bpfVarSeesSegments, bpfVarSeesPackets},
			notSeen: ladder[2].NotSeen + "; that a call to receive by UDP moved nothing, if it may wait", ends: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := choose(kernel.Avoiding(test.avoid, func(string) error { return nil }), test.reach)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, hook := range got.hooks {
				names = append(names, hook.Name)
			}
			if diff := cmp.Diff(test.hooks, names); diff != "" {
				t.Errorf("hooks differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.sees, got.sees); diff != "" {
				t.Errorf("variables differ (-want +got):\n%s", diff)
			}
			if got.ends != test.ends {
				t.Errorf("ends of calls are seen: %v, want %v", got.ends, test.ends)
			}
			if notSeen := got.hooks[len(names)-2].NotSeen; notSeen != test.notSeen {
				t.Errorf("not seen is %q, want %q", notSeen, test.notSeen)
			}
		})
	}
}
