// SPDX-License-Identifier: Apache-2.0

package calls

import "strings"

// nameOf is what a person would say that a call does, from the function that it began
// with: the system call on the descriptor, as "recvfrom". What an io_uring does, or the
// kernel by itself, is on none: that goes by what its function is for, as "connect" of
// __sys_connect_file, and else by the function.
func nameOf(c call, function string) string {
	if c.syscall >= 0 && c.fd >= 0 {
		return syscallName(c.syscall)
	}
	if operation, ok := operationOf(function); ok {
		return operation
	}
	if c.syscall >= 0 && syscallName(c.syscall) != "io_uring_enter" {
		return syscallName(c.syscall)
	}
	return function
}

// wrappers are what stands before the name of a system call in that of a function
// which carries it out.
var wrappers = []string{
	"__x64_sys_", "__arm64_sys_", "__ia32_compat_sys_", "__ia32_sys_", "__se_sys_", "__do_sys_",
	"____sys_", "___sys_", "__sys_", "kernel_sock_", "kernel_", "do_sock_", "do_",
}

// operations are those of functions whose names do not have it, as an io_uring's
// requests are called.
//
// Source: net/socket.c, io_uring/opdef.c.
var operations = map[string]string{
	"__sock_create":     "socket",
	"__sock_release":    "close",
	"__sock_sendmsg":    "send",
	"compat_sock_ioctl": "ioctl",
	"kernel_sendpage":   "sendfile",
	"sock_close":        "close",
	"sock_create":       "socket",
	"sock_create_kern":  "socket",
	"sock_create_lite":  "socket",
	"sock_ioctl":        "ioctl",
	"sock_mmap":         "mmap",
	"sock_poll":         "poll",
	"sock_read_iter":    "read",
	"sock_recvmsg":      "recv",
	"sock_release":      "close",
	"sock_sendmsg":      "send",
	"sock_sendpage":     "sendfile",
	"sock_splice_eof":   "splice",
	"sock_splice_read":  "splice",
	"sock_write_iter":   "write",
}

// operationOf returns what a function of the kernel is for, if it is a system call's
// or an operation of an io_uring: "accept" of do_accept.
func operationOf(function string) (string, bool) {
	if operation, ok := operations[function]; ok {
		return operation, true
	}
	for _, wrapper := range wrappers {
		name, ok := strings.CutPrefix(function, wrapper)
		if !ok {
			continue
		}
		for _, suffix := range []string{"", "_file", "_sock", "_socket"} {
			if name, ok := strings.CutSuffix(name, suffix); ok && isSocketCall(name) {
				return name, true
			}
		}
	}
	return "", false
}

// isSocketCall says whether a name is that of a system call which is about sockets alone, or may be.
func isSocketCall(name string) bool {
	switch name {
	case "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "io_uring_enter", "listen", "recv", "recvfrom",
		"recvmmsg", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketcall", "socketpair":
		return true
	}
	return false
}
