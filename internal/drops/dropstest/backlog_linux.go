// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// fullBacklog sends segments to a connection while a process holds it in a system call, in which it
// waits for a page of its memory. How many are lost is taken from the kernel's counter, since the
// limit differs between kernels.
func fullBacklog(t *testing.T, lab *Lab) map[string]int {
	listener := lab.listen(t, lab.Receiver.IPv4)
	must(unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	lab.knowNeighbour(t, neighbour(lab.Receiver.IPv4))
	h := lab.beginHandshakeFrom(t, neighbour(lab.Receiver.IPv4), lab.Receiver.IPv4, nil)
	h.sendACKs(t, 1)
	server := kerneltest.AcceptOn(t, listener)
	t.Cleanup(func() { unix.Close(server) })

	page := newAbsentPage(t)
	written := make(chan error)
	go func() {
		_, err := unix.Write(server, page.memory)
		written <- err
	}()
	kerneltest.AwaitInput(t, page.fd) // until someone waits for the page
	const sent = 300
	grown := lab.growth(t, together(1), func() {
		h.send(t, sent, h.data(1<<20, 1400)) // which is not in the window, so that it is lost afterwards
	}, "TcpExtTCPBacklogDrop")
	page.bring()
	must(<-written)
	return grown
}

// absentPage is a page of memory whose content is not there yet: who reads it waits.
type absentPage struct {
	memory []byte
	fd     int // of the userfaultfd
}

// The structs and numbers of include/uapi/linux/userfaultfd.h.
const (
	uffdAPI      = 0xc018aa3f
	uffdRegister = 0xc020aa00
	uffdZeroPage = 0xc020aa04

	uffdVersion         = 0xaa
	uffdRegisterMissing = 1
)

func newAbsentPage(t *testing.T) *absentPage {
	t.Helper()
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		t.Fatalf("userfaultfd: %v", errno)
	}
	t.Cleanup(func() { unix.Close(int(fd)) })
	memory, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	must(err)
	t.Cleanup(func() { must(unix.Munmap(memory)) })
	p := &absentPage{memory: memory, fd: int(fd)}
	p.control(uffdAPI, &[4]uint64{uffdVersion})
	p.control(uffdRegister, &[4]uint64{p.start(), uint64(len(memory)), uffdRegisterMissing})
	return p
}

func (p *absentPage) start() uint64 { return uint64(uintptr(unsafe.Pointer(&p.memory[0]))) }

func (p *absentPage) control(request uintptr, argument *[4]uint64) {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.fd), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
		panic(errno)
	}
}

// bring lets the page have zeros.
func (p *absentPage) bring() { p.control(uffdZeroPage, &[4]uint64{p.start(), uint64(len(p.memory))}) }
