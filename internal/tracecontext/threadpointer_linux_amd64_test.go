// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadPointer returns the thread pointer of the running thread.
func threadPointer(b *testing.B) (pointer uint64) {
	b.Helper()
	const getFS = 0x1003 // ARCH_GET_FS
	if _, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, getFS, uintptr(unsafe.Pointer(&pointer)), 0); errno != 0 {
		b.Fatal(errno)
	}
	return pointer
}
