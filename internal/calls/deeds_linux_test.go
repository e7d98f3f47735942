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
		// The number of the system call in which it sleeps, or "running".
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

// comm returns the command name of this process.
func comm(t testing.TB) string {
	t.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

// sendMany sends messages of one byte in one system call.
func sendMany(t testing.TB, fd, messages int) {
	if n, err := sendAll(fd, messages, nil); n != messages {
		t.Errorf("sent %d of %d messages: %v", n, messages, err)
	}
}

// sendAll sends messages to one address with one sendmmsg, which fails if the first of them cannot be
// sent.
func sendAll(fd, messages int, to *unix.RawSockaddrInet4) (int, error) {
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
		if to != nil {
			list[i].header.Name, list[i].header.Namelen = (*byte)(unsafe.Pointer(to)), unix.SizeofSockaddrInet4
		}
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&list[0])), uintptr(messages), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
