// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestErrnoNumber(t *testing.T) {
	for name, want := range map[string]uint32{
		"ECONNREFUSED": 111, "ETIMEDOUT": 110, "EAGAIN": 11, "EWOULDBLOCK": 11, "EOPNOTSUPP": 95, "ENOTSUP": 95,
		"ERESTARTSYS": 0, // no system call returns it
		"ENOSUCH":     0,
		"":            0,
	} {
		if got, ok := ErrnoNumber(name); got != want || ok != (want != 0) {
			t.Errorf("ErrnoNumber(%q) = %d, %v, want %d", name, got, ok, want)
		}
	}
}

func TestSyscalls(t *testing.T) {
	numbers := syscallNumbers([]string{"connect", "no_such_call"})
	var names []string
	for _, number := range numbers {
		names = append(names, syscallName(int(number)))
	}
	if diff := cmp.Diff([]string{"connect"}, names); diff != "" {
		t.Errorf("names of numbers of names differ (-want +got):\n%s", diff)
	}
	if got := syscallName(9999); got != "syscall_9999" {
		t.Errorf("syscallName(9999) = %q", got)
	}
	for _, known := range []string{"recvfrom", "accept4", "sendfile", "read"} {
		if err := CheckSyscall(known); err != nil {
			t.Errorf("CheckSyscall: %v", err)
		}
	}
	if CheckSyscall("sys_read") == nil {
		t.Error("sys_read is a system call")
	}
}
