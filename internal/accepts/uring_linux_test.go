// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

const (
	uringOneShot   = 0
	uringMultishot = 1
	uringFixedSlot = 2 // into one slot of the ring's file table
	uringFixedAny  = 4 // into a free slot of it

	registerFiles   = 2
	acceptMultishot = 1
	fileIndexAlloc  = ^uint32(0)
	fixedSlots      = 4
)

// lackOfUring returns why the tests of io_uring cannot run, or "" if they can. It may be disabled,
// or too old: its tracepoints then do not name a request, and there are no multishot accepts.
func lackOfUring(t *testing.T) string {
	t.Helper()
	types, err := kernel.Types()
	if err != nil {
		return err.Error()
	}
	if !hasTracepoint(types, "io_uring_task_add", 2) {
		return "the io_uring of this kernel is older than Linux 6.0, or none"
	}
	if err := kerneltest.HasRing(); err != nil {
		return fmt.Sprintf("io_uring is off: %v", err)
	}
	return ""
}

// serveUring accepts through an io_uring.
func serveUring(how int) {
	runtime.LockOSThread()
	ring := kerneltest.NewRing()
	accept := kerneltest.Submission{Opcode: kerneltest.RingAccept, FD: listenerFD, UserData: 42}
	if how&uringMultishot != 0 {
		accept.IOPrio = acceptMultishot
	}
	if how&(uringFixedSlot|uringFixedAny) != 0 {
		registerSlots(ring)
		accept.FileIndex = fixedSlots // one more than the slot
	}
	if how&uringFixedAny != 0 {
		accept.FileIndex = fileIndexAlloc
	}
	for again := true; ; {
		var c kerneltest.Completion
		if again {
			c = ring.Do(accept)
		} else {
			c = ring.Next()
		}
		again = how&uringMultishot == 0
		if c.Result < 0 {
			panic(fmt.Errorf("accept: %w", unix.Errno(-c.Result)))
		}
		switch {
		case how&uringFixedAny != 0:
			greetFixed(ring, uint32(c.Result))
		case how&uringFixedSlot != 0:
			greetFixed(ring, fixedSlots-1)
		default:
			greet(os.NewFile(uintptr(c.Result), "connection"))
		}
	}
}

func registerSlots(ring *kerneltest.Ring) {
	empty := [fixedSlots]int32{-1, -1, -1, -1}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(ring.FD), registerFiles,
		uintptr(unsafe.Pointer(&empty)), fixedSlots, 0, 0)
	if errno != 0 {
		panic(fmt.Errorf("io_uring_register: %w", errno))
	}
}

// greetFixed is greet for a socket that has a slot in the ring's file table and no fd.
func greetFixed(ring *kerneltest.Ring, slot uint32) {
	greet(&fixedSocket{ring, slot})
}

type fixedSocket struct {
	ring *kerneltest.Ring
	slot uint32
}

func (s *fixedSocket) Write(text []byte) (int, error) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&text[0])
	c := s.ring.Do(kerneltest.Submission{
		Opcode: kerneltest.RingSend, Flags: kerneltest.RingFixedFile, FD: int32(s.slot),
		Address: uint64(uintptr(unsafe.Pointer(&text[0]))), Length: uint32(len(text)),
	})
	return int(c.Result), nil
}

func (s *fixedSocket) Close() error {
	s.ring.Do(kerneltest.Submission{Opcode: kerneltest.RingClose, FileIndex: s.slot + 1})
	return nil
}
