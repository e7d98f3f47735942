// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These are the parts of io_uring that one request needs. golang.org/x/sys has none of it.
//
// Source: include/uapi/linux/io_uring.h.
const (
	uringPollAdd        = 6          // IORING_OP_POLL_ADD
	uringSubmissions    = 0x10000000 // IORING_OFF_SQES
	uringSubmissionSize = 64
)

// uringParams is struct io_uring_params.
type uringParams struct {
	_  [10]uint32
	sq struct {
		head, tail, _, _, _, _, array, _ uint32
		_                                uint64
	}
	_ [5]uint64
}

// uringRequest is struct io_uring_sqe.
type uringRequest struct {
	opcode uint8
	_      [3]uint8
	fd     int32
	_      [20]uint8
	events uint32
	_      [32]uint8
}

// completeRequest lets a request wait until an eventfd is readable, and then makes it readable. The
// kernel completes the request on the thread that submitted it, so the thread must stay the same.
func completeRequest() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var params uringParams
	number, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return os.NewSyscallError("io_uring_setup", errno)
	}
	ring := int(number)
	defer unix.Close(ring)
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	defer unix.Close(event)
	if err := submit(ring, params, uringRequest{opcode: uringPollAdd, fd: int32(event), events: unix.POLLIN}); err != nil {
		return err
	}
	if _, err := unix.Write(event, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return fmt.Errorf("write to an eventfd: %w", err)
	}
	return awaitCompletion(ring)
}

// awaitCompletion waits until the ring has a completion, but no longer than causeTimeout:
// io_uring_enter would wait forever for a request that is never carried out.
func awaitCompletion(ring int) error {
	for deadline := time.Now().Add(causeTimeout); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(ring), Events: unix.POLLIN}}, max(0, int(time.Until(deadline).Milliseconds())))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for an io_uring: %w", err)
		case time.Now().After(deadline):
			return fmt.Errorf("a request of an io_uring has not completed within %v", causeTimeout)
		}
	}
}

// submit passes the first request of a ring to the kernel.
func submit(ring int, params uringParams, request uringRequest) error {
	queue, err := unix.Mmap(ring, 0, int(params.sq.array)+4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map an io_uring: %w", err)
	}
	defer unix.Munmap(queue) //nolint:errcheck // only mapped memory
	requests, err := unix.Mmap(ring, uringSubmissions, uringSubmissionSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map an io_uring: %w", err)
	}
	defer unix.Munmap(requests) //nolint:errcheck // only mapped memory
	*(*uringRequest)(unsafe.Pointer(&requests[0])) = request
	*(*uint32)(unsafe.Pointer(&queue[params.sq.array])) = 0 // the first slot has the first request
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&queue[params.sq.tail])), 1)
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(ring), 1, 0, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("io_uring_enter", errno)
	}
	return nil
}
