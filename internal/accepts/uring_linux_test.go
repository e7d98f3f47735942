package accepts

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// As much of io_uring as an accepting server needs, since golang.org/x/sys has
// none of it. Source: include/uapi/linux/io_uring.h.

const (
	uringOneShot   = 0
	uringMultishot = 1
	uringFixedSlot = 2 // into one slot of the ring's file table
	uringFixedAny  = 4 // into a free slot of it

	opAccept        = 13
	opClose         = 19
	opSend          = 26
	enterGetEvents  = 1
	registerFiles   = 2
	sqeFixedFile    = 1
	acceptMultishot = 1
	fileIndexAlloc  = ^uint32(0)
	fixedSlots      = 4

	offsetSubmissions = 0
	offsetEntries     = 0x10000000
)

type uringParams struct {
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

type submission struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	offset        uint64
	address       uint64
	length        uint32
	opFlags       uint32
	userData      uint64
	bufIndex      uint16
	personality   uint16
	fileIndex     uint32
	_             [2]uint64
}

type completion struct {
	userData uint64
	result   int32
	flags    uint32
}

type uring struct {
	fd          int
	params      uringParams
	rings       []byte
	submissions []byte
}

func newUring() *uring {
	r := &uring{}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 8, uintptr(unsafe.Pointer(&r.params)), 0)
	if errno != 0 {
		panic(fmt.Errorf("io_uring_setup: %w", errno))
	}
	r.fd = int(fd)
	size := max(r.params.sq.array+r.params.sqEntries*4, r.params.cq.cqes+r.params.cqEntries*uint32(unsafe.Sizeof(completion{})))
	r.rings = mapped(r.fd, offsetSubmissions, int(size))
	r.submissions = mapped(r.fd, offsetEntries, int(r.params.sqEntries)*int(unsafe.Sizeof(submission{})))
	return r
}

func mapped(fd int, offset int64, size int) []byte {
	memory, err := unix.Mmap(fd, offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		panic(err)
	}
	return memory
}

func (r *uring) word(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }

// do submits one request and waits for a completion.
func (r *uring) do(s submission) completion {
	tail := *r.word(r.params.sq.tail)
	index := tail & *r.word(r.params.sq.mask)
	*(*submission)(unsafe.Pointer(&r.submissions[uintptr(index)*unsafe.Sizeof(s)])) = s
	*r.word(r.params.sq.array + 4*index) = index
	atomic.StoreUint32(r.word(r.params.sq.tail), tail+1)
	return r.next(1)
}

// next submits what was queued and waits for a completion.
func (r *uring) next(submit uintptr) completion {
	for {
		head := *r.word(r.params.cq.head)
		if submit == 0 && head != atomic.LoadUint32(r.word(r.params.cq.tail)) {
			index := head & *r.word(r.params.cq.mask)
			c := *(*completion)(unsafe.Pointer(&r.rings[uintptr(r.params.cq.cqes)+uintptr(index)*unsafe.Sizeof(completion{})]))
			atomic.StoreUint32(r.word(r.params.cq.head), head+1)
			return c
		}
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), submit, 1, enterGetEvents, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			panic(fmt.Errorf("io_uring_enter: %w", errno))
		}
		submit = 0
	}
}

// lackOfUring says why the tests of io_uring cannot run, or "": where it is off,
// or too old for its tracepoints to name a request and for multishot accepts.
func lackOfUring(t *testing.T) string {
	t.Helper()
	types, err := kernel.Types()
	if err != nil {
		return err.Error()
	}
	if !hasTracepoint(types, "io_uring_task_add", 2) {
		return "the io_uring of this kernel is older than Linux 6.0, or none"
	}
	var params uringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 8, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return fmt.Sprintf("io_uring is off: %v", errno)
	}
	unix.Close(int(fd))
	return ""
}

// serveUring accepts through an io_uring.
func serveUring(how int) {
	runtime.LockOSThread()
	ring := newUring()
	accept := submission{opcode: opAccept, fd: listenerFD, userData: 42}
	if how&uringMultishot != 0 {
		accept.ioprio = acceptMultishot
	}
	if how&(uringFixedSlot|uringFixedAny) != 0 {
		ring.registerSlots()
		accept.fileIndex = fixedSlots // one more than the slot
	}
	if how&uringFixedAny != 0 {
		accept.fileIndex = fileIndexAlloc
	}
	for again := true; ; {
		var c completion
		if again {
			c = ring.do(accept)
		} else {
			c = ring.next(0)
		}
		again = how&uringMultishot == 0
		if c.result < 0 {
			panic(fmt.Errorf("accept: %w", unix.Errno(-c.result)))
		}
		switch {
		case how&uringFixedAny != 0:
			greetFixed(ring, uint32(c.result))
		case how&uringFixedSlot != 0:
			greetFixed(ring, fixedSlots-1)
		default:
			greet(os.NewFile(uintptr(c.result), "connection"))
		}
	}
}

func (r *uring) registerSlots() {
	empty := [fixedSlots]int32{-1, -1, -1, -1}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerFiles,
		uintptr(unsafe.Pointer(&empty)), fixedSlots, 0, 0)
	if errno != 0 {
		panic(fmt.Errorf("io_uring_register: %w", errno))
	}
}

// greetFixed is greet for a socket that has a slot and no fd.
func greetFixed(ring *uring, slot uint32) {
	greet(&fixedSocket{ring, slot})
}

type fixedSocket struct {
	ring *uring
	slot uint32
}

func (s *fixedSocket) Write(text []byte) (int, error) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&text[0])
	c := s.ring.do(submission{
		opcode: opSend, flags: sqeFixedFile, fd: int32(s.slot),
		address: uint64(uintptr(unsafe.Pointer(&text[0]))), length: uint32(len(text)),
	})
	return int(c.result), nil
}

func (s *fixedSocket) Close() error {
	s.ring.do(submission{opcode: opClose, fileIndex: s.slot + 1})
	return nil
}
