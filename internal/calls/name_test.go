// SPDX-License-Identifier: Apache-2.0

package calls

import "testing"

func TestNameOf(t *testing.T) {
	for function, test := range map[string]struct {
		syscall string // "": there is none
		fd      int
		want    string
	}{
		"__sys_recvfrom":           {"recvfrom", 7, "recvfrom"},
		"__x64_sys_connect":        {"connect", 7, "connect"},
		"__arm64_sys_bind":         {"bind", -1, "bind"}, // the descriptor is not valid
		"sock_write_iter":          {"writev", 7, "writev"},
		"tcp_sendmsg":              {"sendto", 7, "sendto"},
		"__sys_socket":             {"socket", -1, "socket"},
		"sock_mmap":                {"mmap", -1, "mmap"},
		"sock_fasync":              {"fcntl", -1, "fcntl"},
		"sock_close":               {"exit_group", -1, "close"},
		"__sys_connect_file":       {"io_uring_enter", -1, "connect"},
		"do_accept":                {"io_uring_enter", -1, "accept"},
		"sock_sendmsg":             {"", -1, "send"},      // by a worker of io_uring
		"sock_recvmsg":             {"write", -1, "recv"}, // by io_uring, after another call of the thread
		"__sys_sendmsg_sock":       {"", -1, "sendmsg"},   //
		"__sys_bind_socket":        {"", -1, "bind"},      // since 6.11
		"__ia32_sys_connect":       {"", -1, "connect"},   // 32-bit calls have other numbers
		"kernel_connect":           {"", -1, "connect"},   // by a kernel thread
		"sock_create_kern":         {"", -1, "socket"},    //
		"kernel_sock_ip_overhead":  {"", -1, "kernel_sock_ip_overhead"},
		"tcp_v4_connect":           {"", -1, "tcp_v4_connect"},
		"__x64_sys_io_uring_enter": {"io_uring_enter", -1, "io_uring_enter"},
	} {
		c := call{syscall: -1, fd: test.fd}
		if test.syscall != "" {
			c.syscall = number(test.syscall)
		}
		if got := nameOf(c, function); got != test.want {
			t.Errorf("nameOf(%s in %q) = %q, want %q", function, test.syscall, got, test.want)
		}
	}
}
