// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// awaitReceive waits until a thread of this process waits in recvfrom.
func awaitReceive(t testing.TB, thread int) {
	t.Helper()
	awaitCall(t, os.Getpid(), thread, unix.SYS_RECVFROM)
}

// awaitCall waits until a thread sleeps in a system call.
func awaitCall(t testing.TB, pid, thread, number int) {
	t.Helper()
	for range 1000 {
		// The number of the system call that it sleeps in, or "running".
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, thread))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(state), fmt.Sprint(number, " ")) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("thread %d does not wait", thread)
}

// comm is the command name of this process.
func comm(t testing.TB) string {
	t.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

// sendMany sends messages of a byte in one system call.
func sendMany(t testing.TB, fd, messages int) {
	content := []byte{1}
	vector := unix.Iovec{Base: &content[0], Len: 1}
	type message struct {
		header unix.Msghdr
		sent   uint32
		_      uint32
	}
	list := make([]message, messages)
	for i := range list {
		list[i].header.Iov, list[i].header.Iovlen = &vector, 1
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&list[0])), uintptr(messages), 0, 0, 0)
	if int(n) != messages {
		t.Errorf("sent %d of %d messages: %v", n, messages, errno)
	}
}
