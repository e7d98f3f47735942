// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithFewFunctions(t *testing.T) {
	const table = `ffffffff81000000 T _stext
ffffffff81000100 t sock_show_fdinfo
ffffffff81000200 T sock_alloc
ffffffff81000300 T sock_register
ffffffff81000400 t sock_read_iter
ffffffff81000500 d sock_register_data
ffffffff81000600 T sock_recvmsg
ffffffff81000700 T tcp_sendmsg
ffffffff81900000 t sock_recvmsg.cold
ffffffffc0000300 t sock_of_module	[module]
`
	const want = `ffffffff81000000 T _stext
ffffffff81000200 T sock_alloc
ffffffff81000400 t sock_read_iter
ffffffff81000500 d sock_register_data
ffffffff81000600 T sock_recvmsg
ffffffff81000700 T tcp_sendmsg
ffffffff81900000 t sock_recvmsg.cold
ffffffffc0000300 t sock_of_module	[module]
`
	few, hidden := withFewFunctions([]byte(table))
	if diff := cmp.Diff(want, string(few)); diff != "" || hidden != 2 {
		t.Errorf("withFewFunctions() hides %d functions, and differs (-want +got):\n%s", hidden, diff)
	}
}
