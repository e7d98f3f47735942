// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"
	"unsafe"
)

func threadPointer() uintptr {
	const getFS = 0x1003 // ARCH_GET_FS
	var pointer uintptr
	syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, getFS, uintptr(unsafe.Pointer(&pointer)), 0)
	return pointer
}
