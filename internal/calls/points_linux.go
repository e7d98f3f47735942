// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// tracepoints are the tracepoints that are seen inside system calls, if functions cannot be traced.
var tracepoints = []struct {
	point   bpfPoint
	name    string
	program string
}{
	{bpfPointPOINT_SEND_LENGTH, "sock_send_length", bpfProgSeeSendLength},
	{bpfPointPOINT_RECEIVE_LENGTH, "sock_recv_length", bpfProgSeeReceiveLength},
	{bpfPointPOINT_SENDMSG_LOCKED, "tcp_sendmsg_locked", bpfProgSeeSendmsgLocked},
	{bpfPointPOINT_QUEUE, "net_dev_queue", bpfProgSeeQueue},
	{bpfPointPOINT_START_XMIT, "net_dev_start_xmit", bpfProgSeeStartXmit},
	{bpfPointPOINT_RECEIVE_SKB, "netif_receive_skb", bpfProgSeeReceiveSkb},
	{bpfPointPOINT_KFREE_SKB, "kfree_skb", bpfProgSeeKfreeSkb},
	{bpfPointPOINT_SET_STATE, "inet_sock_set_state", ""}, // a hook that is always attached
}

// points returns the hooks of the tracepoints that this kernel has.
func points(types *btf.Spec) []kernel.Hook {
	var hooks []kernel.Hook
	for _, t := range tracepoints {
		if _, err := kernel.TracepointArgs(types, t.name); err == nil && t.program != "" {
			hooks = append(hooks, kernel.Hook{Job: t.name, Name: "tp_btf/" + t.name, Programs: []string{t.program}})
		}
	}
	return hooks
}

// bothAtOnce has the program of a tracepoint for trees and for waits, by those for only one of them.
var bothAtOnce = []struct{ point, wait, both string }{
	{bpfProgSeeSendLength, bpfProgSeeSent, bpfProgSeeSentInside},
	{bpfProgSeeReceiveLength, bpfProgSeeRead, bpfProgSeeReadInside},
}

// merge lets the hooks for waits have one program for both where a tracepoint is hooked for trees as well, and returns the other
// hooks for trees.
func merge(trees, waits []kernel.Hook) (apart []kernel.Hook) {
	for _, tree := range trees {
		if !slices.ContainsFunc(bothAtOnce, func(p struct{ point, wait, both string }) bool {
			return tree.Programs[0] == p.point && replaceProgram(waits, p.wait, p.both)
		}) {
			apart = append(apart, tree)
		}
	}
	return apart
}

// syscallTable returns the table to which the numbers of nodes refer if functions cannot be traced:
// system calls by their numbers, then the tracepoints.
func syscallTable() []function {
	table := make([]function, bpfPointPOINT_SET_STATE+1)
	for number := range table {
		table[number] = function{name: wrapperOf(number), fails: true}
	}
	for _, t := range tracepoints {
		table[t.point] = function{name: t.name}
	}
	return table
}

// wrapperOf returns the name of the kernel function that a system call enters, such as
// "__x64_sys_recvfrom".
func wrapperOf(number int) string {
	return fmt.Sprintf("__%s_sys_%s", map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH], syscallName(number))
}
