// SPDX-License-Identifier: Apache-2.0

// Command golabels runs a goroutine with a pprof label, prints the thread pointer
// of the thread that runs it, and waits in a system call for the end of its input.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"syscall"
	"unsafe"
)

func main() {
	runtime.LockOSThread()
	pprof.Do(context.Background(), pprof.Labels("trace_id", os.Getenv("TRACE_ID")), func(context.Context) {
		fmt.Printf("%x\nready\n", threadPointer())
		var end [1]byte
		syscall.RawSyscall(syscall.SYS_READ, 0, uintptr(unsafe.Pointer(&end)), 1)
	})
}
