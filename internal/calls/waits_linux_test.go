// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

func TestJoinEnds(t *testing.T) {
	ready := kernel.Hook{Job: "ready", Name: "fentry/sock_def_readable", Programs: []string{bpfProgSeeReadable}}
	send := kernel.Hook{Job: "exchange", Name: "fexit/sock_sendmsg", Programs: []string{bpfProgSeeMessage}, Functions: []kernel.Function{{Name: "sock_sendmsg"}}}
	byTCP := kernel.Hook{Job: "exchange", Name: "fexit/tcp_sendmsg", Programs: []string{bpfProgSeeSentTcp, bpfProgSeeSendmsg, bpfProgSeeRecvmsg}}
	close, receive, sends := kernel.Function{Name: "sock_close"}, kernel.Function{Name: "sock_recvmsg", Type: 7}, kernel.Function{Name: "sock_sendmsg", Type: 8}
	segments := kernel.Function{Name: "tcp_sendmsg", Type: 9}
	joined := func(hook kernel.Hook, program string, at kernel.Function, first int) kernel.Hook {
		hook.Programs, hook.Functions, hook.First = []string{program}, []kernel.Function{at}, first
		return hook
	}
	for name, test := range map[string]struct {
		waits       []kernel.Hook
		functions   []kernel.Function
		ends, apart []kernel.Hook
		ordered     []kernel.Function
	}{
		"both functions are followed": {
			waits:     []kernel.Hook{ready, send, readAtFunction},
			functions: []kernel.Function{close, receive, sends},
			ends:      []kernel.Hook{joined(send, bpfProgLeaveMessage, sends, 0), joined(readAtFunction, bpfProgLeaveRecvmsg, receive, 1)},
			apart:     []kernel.Hook{ready},
			ordered:   []kernel.Function{sends, receive, close},
		},
		"one of them is": {
			waits:     []kernel.Hook{ready, send, readAtFunction},
			functions: []kernel.Function{close, receive},
			ends:      []kernel.Hook{joined(readAtFunction, bpfProgLeaveRecvmsg, receive, 0)},
			apart:     []kernel.Hook{ready, send},
			ordered:   []kernel.Function{receive, close},
		},
		"the programs are for other functions as well": {
			waits:     []kernel.Hook{ready, byTCP},
			functions: []kernel.Function{close, segments},
			apart:     []kernel.Hook{ready, byTCP},
			ordered:   []kernel.Function{close, segments},
		},
		"waits are not seen": {functions: []kernel.Function{close, receive}, ordered: []kernel.Function{close, receive}},
	} {
		t.Run(name, func(t *testing.T) {
			ends, apart, ordered := joinEnds(test.waits, test.functions)
			for what, lists := range map[string][2]any{"ends": {test.ends, ends}, "apart": {test.apart, apart}, "ordered": {test.ordered, ordered}} {
				if diff := gocmp.Diff(lists[0], lists[1]); diff != "" {
					t.Errorf("%s differ (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}
