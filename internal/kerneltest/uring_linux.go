// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ring has as much of an io_uring as tests need, since golang.org/x/sys has none of it. Errors are
// panics, because the servers of tests cannot report them.
//
// Source: include/uapi/linux/io_uring.h.
type Ring struct {
	FD int

	params      ringParams
	rings       []byte
	submissions []byte
}

// What a submission requests, and how.
const (
	RingSendmsg = 9
	RingAccept  = 13
	RingConnect = 16
	RingClose   = 19
	RingSend    = 26
	RingRecv    = 27
	RingBind    = 56

	RingFixedFile = 1  // flag: FD is a slot of the ring's file table
	RingAsync     = 16 // flag: one of the ring's workers does it
)

const (
	ringGetEvents         = 1 // flag of io_uring_enter
	ringOffsetSubmissions = 0
	ringOffsetEntries     = 0x10000000
)

type ringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wqFD uint32
	_                                                      [3]uint32
	sq                                                     struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// Submission is a request.
type Submission struct {
	Opcode, Flags uint8
	IOPrio        uint16
	FD            int32
	Offset        uint64
	Address       uint64
	Length        uint32
	OpFlags       uint32
	UserData      uint64
	BufIndex      uint16
	Personality   uint16
	FileIndex     uint32
	_             [2]uint64
}

// Completion is the result of a request.
type Completion struct {
	UserData uint64
	Result   int32
	Flags    uint32
}

// HasRing returns nil if a ring can be made, and otherwise the reason why not.
func HasRing() error {
	fd, err := setUpRing(new(ringParams))
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func setUpRing(params *ringParams) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 8, uintptr(unsafe.Pointer(params)), 0)
	if errno != 0 {
		return -1, fmt.Errorf("io_uring_setup: %w", errno)
	}
	return int(fd), nil
}

// NewRing makes a ring.
func NewRing() *Ring {
	r := &Ring{}
	var err error
	if r.FD, err = setUpRing(&r.params); err != nil {
		panic(err)
	}
	size := max(r.params.sq.array+r.params.sqEntries*4, r.params.cq.cqes+r.params.cqEntries*uint32(unsafe.Sizeof(Completion{})))
	r.rings = mapRing(r.FD, ringOffsetSubmissions, int(size))
	r.submissions = mapRing(r.FD, ringOffsetEntries, int(r.params.sqEntries)*int(unsafe.Sizeof(Submission{})))
	return r
}

// Close ends a ring.
func (r *Ring) Close() error {
	return errors.Join(unix.Munmap(r.rings), unix.Munmap(r.submissions), unix.Close(r.FD))
}

func mapRing(fd int, offset int64, size int) []byte {
	memory, err := unix.Mmap(fd, offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		panic(err)
	}
	return memory
}

func (r *Ring) word(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }

// Do submits one request and waits for a completion.
func (r *Ring) Do(s Submission) Completion {
	r.queue(s)
	return r.await(1)
}

// Submit submits one request.
func (r *Ring) Submit(s Submission) {
	r.queue(s)
	r.enter(1, 0)
}

func (r *Ring) queue(s Submission) {
	tail := *r.word(r.params.sq.tail)
	index := tail & *r.word(r.params.sq.mask)
	*(*Submission)(unsafe.Pointer(&r.submissions[uintptr(index)*unsafe.Sizeof(s)])) = s
	*r.word(r.params.sq.array + 4*index) = index
	atomic.StoreUint32(r.word(r.params.sq.tail), tail+1)
}

// Next waits for a completion.
func (r *Ring) Next() Completion { return r.await(0) }

// await submits what was queued and waits for a completion.
func (r *Ring) await(submit uintptr) Completion {
	for {
		head := *r.word(r.params.cq.head)
		if submit == 0 && head != atomic.LoadUint32(r.word(r.params.cq.tail)) {
			index := head & *r.word(r.params.cq.mask)
			c := *(*Completion)(unsafe.Pointer(&r.rings[uintptr(r.params.cq.cqes)+uintptr(index)*unsafe.Sizeof(Completion{})]))
			atomic.StoreUint32(r.word(r.params.cq.head), head+1)
			return c
		}
		r.enter(submit, 1)
		submit = 0
	}
}

// enter submits what was queued and waits for completions, unless a signal comes.
func (r *Ring) enter(submit, completions uintptr) {
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.FD), submit, completions, ringGetEvents, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		panic(fmt.Errorf("io_uring_enter: %w", errno))
	}
}

// Move sends or receives through a socket.
func (r *Ring) Move(opcode uint8, fd int32, buffer []byte) Completion {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&buffer[0])
	return r.Do(Submission{Opcode: opcode, FD: fd, Address: uint64(uintptr(unsafe.Pointer(&buffer[0]))), Length: uint32(len(buffer))})
}
