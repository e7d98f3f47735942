// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/elastic/go-seccomp-bpf/arch"
)

// syscalls has the names and numbers of the system calls of the running architecture.
var syscalls = func() *arch.Info {
	if runtime.GOARCH == "arm64" {
		return arch.AARCH64
	}
	return arch.X86_64
}()

// CheckSyscall returns an error unless Linux has a system call of this name on x86-64 or arm64.
func CheckSyscall(name string) error {
	_, amd64 := arch.X86_64.SyscallNames[name]
	_, arm64 := arch.AARCH64.SyscallNames[name]
	if !amd64 && !arm64 {
		return fmt.Errorf("%q is no system call", name)
	}
	return nil
}

// syscallNumbers returns the numbers of system calls, without those that the
// running architecture does not have.
func syscallNumbers(names []string) []uint32 {
	var numbers []uint32
	for _, name := range names {
		if number, ok := syscalls.SyscallNames[name]; ok {
			numbers = append(numbers, uint32(number))
		}
	}
	return numbers
}

// syscallName returns the name of a system call, such as "recvfrom". For a number without a name it
// returns "syscall_999".
func syscallName(number int) string {
	if name, ok := syscalls.SyscallNumbers[number]; ok {
		return name
	}
	return fmt.Sprintf("syscall_%d", number)
}

// movesBytes reports whether the result of a system call is a number of bytes, and whether function,
// the first that was seen, has that result. It may not have been seen which function was really the
// first.
func movesBytes(number int, function string) bool {
	name := syscallName(number)
	switch name {
	case "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2",
		"sendfile", "splice":
		return strings.HasSuffix(function, "_sys_"+name) || strings.HasPrefix(function, "sock_") || strings.HasPrefix(function, "splice_")
	case "recvfrom", "recvmsg", "sendto", "sendmsg":
		return strings.HasSuffix(function, "_sys_"+name)
	}
	return false
}
