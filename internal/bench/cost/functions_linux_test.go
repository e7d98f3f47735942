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
ffffffffc0000300 t sock_of_module	[module]
`
	const want = `ffffffff81000000 T _stext
ffffffff81000100 t sock_show_fdinfo
ffffffff81000200 T sock_alloc
ffffffff81000400 t sock_read_iter
ffffffff81000500 d sock_register_data
ffffffff81000600 T sock_recvmsg
ffffffff81000700 T tcp_sendmsg
ffffffffc0000300 t sock_of_module	[module]
`
	if diff := cmp.Diff(want, string(withFewFunctions([]byte(table)))); diff != "" {
		t.Errorf("withFewFunctions() differs (-want +got):\n%s", diff)
	}
}
