// SPDX-License-Identifier: Apache-2.0

package calls

import "strings"

// nameOf returns the name of a call's span, from the function with which the call began. For a
// system call on a descriptor it is the system call, such as "recvfrom". Operations of io_uring
// and of the kernel itself have no descriptor: their name is that of the operation for which the
// function is, such as "connect" for __sys_connect_file, or otherwise that of the function.
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

// wrappers are the prefixes of functions that carry out a system call. The rest of the function's
// name is that of the system call.
var wrappers = []string{
	"__x64_sys_", "__arm64_sys_", "__ia32_compat_sys_", "__ia32_sys_", "__se_sys_", "__do_sys_",
	"____sys_", "___sys_", "__sys_", "kernel_sock_", "kernel_", "do_sock_", "do_",
}

// operations has the operations of functions whose names do not say them. They have the names of
// io_uring's requests.
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

// operationOf returns the system call or the operation of io_uring that a function of the kernel
// carries out, if it does: "accept" for do_accept.
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

// isSocketCall reports whether a name is that of a system call that is only, or may be only, about
// sockets.
func isSocketCall(name string) bool {
	switch name {
	case "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "io_uring_enter", "listen", "recv", "recvfrom",
		"recvmmsg", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketcall", "socketpair":
		return true
	}
	return false
}
