// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// ringRequest is what a tree says of a request that io_uring carried out.
type ringRequest struct {
	Name string
	Deed deed
}

// requested are the names of the trees of the requests of exchangeThrough.
var requested = []string{"connect", "accept", "send", "recv"}

// ringRequests returns the requests of the trees, each once. A request that could not be carried out
// at once is tried again, and then has several trees.
func ringRequests(trees []tree) []ringRequest {
	var found []ringRequest
	for _, tr := range trees {
		d := deedOf(tr)
		d.BlockedOn = nil
		if name := tr.root.Name(); slices.Contains(requested, name) && d.FD == nil && tr.value("nettap.call.errno") != "EAGAIN" {
			found = append(found, ringRequest{name, d})
		}
	}
	return slices.CompactFunc(found, func(a, b ringRequest) bool { return a.Name == b.Name })
}

func requireRing(t testing.TB) {
	t.Helper()
	if err := kerneltest.HasRing(); err != nil {
		t.Skip(err)
	}
}

// exchangeThrough makes a connection and sends and receives 5 bytes through io_uring, on a new thread
// whose id it returns.
func exchangeThrough(t testing.TB, flags uint8) int {
	t.Helper()
	requireRing(t)
	listener := listenTCP(t)
	port := localOf(listener).Port()
	address := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port>>8 | port<<8, Addr: [4]byte{127, 0, 0, 1}}
	var buffer [5]byte
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&address)
	pinner.Pin(&buffer)
	return onThread(func() {
		ring := kerneltest.NewRing()
		defer ring.Close()
		do := func(s kerneltest.Submission) int {
			s.Flags = flags
			result := int(ring.Do(s).Result)
			if result < 0 {
				t.Errorf("request %d: %v", s.Opcode, unix.Errno(-result))
			}
			return result
		}
		client := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		defer unix.Close(client)
		do(kerneltest.Submission{Opcode: kerneltest.RingConnect, FD: int32(client), Address: addressOf(&address), Offset: unix.SizeofSockaddrInet4})
		awaitReadable(t, listener) // otherwise the request would begin in one thread and end in another one
		server := do(kerneltest.Submission{Opcode: kerneltest.RingAccept, FD: int32(listener)})
		defer unix.Close(server)
		do(kerneltest.Submission{Opcode: kerneltest.RingSend, FD: int32(client), Address: addressOf(&buffer), Length: 5})
		awaitReadable(t, server)
		do(kerneltest.Submission{Opcode: kerneltest.RingRecv, FD: int32(server), Address: addressOf(&buffer), Length: 5})
	})
}

func awaitReadable(t testing.TB, fd int) {
	t.Helper()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); n != 1 {
		t.Errorf("nothing comes to %d: %v", fd, err)
	}
}

func addressOf[T any](memory *T) uint64 { return uint64(uintptr(unsafe.Pointer(memory))) }

func throughRing(t testing.TB, o *fixture) {
	o.want(t, Options{})
	thread := exchangeThrough(t, 0)
	trees := o.by(t, thread)
	if !o.functions() {
		o.throughRingByCalls(t, trees)
		return
	}
	inside := deed{Syscall: "io_uring_enter", Kept: "slow"}
	connect := inside
	connect.Transport = "tcp"
	want := []ringRequest{{"connect", connect}, {"accept", inside}, {"send", inside}, {"recv", inside}}
	if diff := gocmp.Diff(want, ringRequests(trees)); diff != "" {
		t.Errorf("requests differ (-want +got):\n%s", diff)
	}
}

// throughRingByCalls looks for the events of the system calls that connected, sent and received.
func (o *fixture) throughRingByCalls(t testing.TB, trees []tree) {
	t.Helper()
	want := map[string]int{"net_dev_queue": 2}
	if slices.ContainsFunc(o.recorder.Read().Hooks, func(hook kernel.Hook) bool { return hook.Name == "tp_btf/sock_recv_length" }) {
		want["sock_recv_length"] = 1
	}
	got := map[string]int{}
	for _, tr := range trees {
		for _, point := range []string{"net_dev_queue", "sock_recv_length"} {
			if d := deedOf(tr); d.Syscall == "io_uring_enter" && d.FD == nil && tr.has(point) {
				got[point]++
			}
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("trees of io_uring_enter with tracepoints differ (-want +got):\n%s", diff)
	}
}

func byRingWorkers(t testing.TB, o *fixture) {
	o.want(t, Options{})
	thread := exchangeThrough(t, kerneltest.RingAsync)
	workers := slices.DeleteFunc(slices.Clone(o.collect(t)), func(tr tree) bool {
		name, _ := tr.value("thread.name").(string)
		return !strings.HasPrefix(name, "iou-wrk-")
	})
	var want []ringRequest
	if o.functions() {
		d := deed{Kept: "slow"}
		connect := d
		connect.Transport = "tcp"
		want = []ringRequest{{"connect", connect}, {"accept", d}, {"send", d}, {"recv", d}}
	} else if len(workers) > 0 {
		t.Errorf("there are %d trees of workers", len(workers))
	}
	if diff := gocmp.Diff(want, ringRequests(workers)); diff != "" {
		t.Errorf("requests of workers differ (-want +got):\n%s", diff)
	}
	for _, tr := range workers {
		if pid := value(tr.resource, "process.pid"); pid != int64(unix.Getpid()) || tr.value("nettap.thread.id") == int64(thread) {
			t.Errorf("%s is of process %v and thread %v", tr.function(), pid, tr.value("nettap.thread.id"))
		}
	}
}

// behindAnother lets a request wait for a message that its own thread writes. It is carried out after that
// call, before the thread returns to the program.
func behindAnother(t testing.TB, o *fixture) {
	requireRing(t)
	fds := pair(t, unix.SOCK_STREAM)
	var buffer [5]byte
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&buffer)
	o.want(t, Options{})
	thread := onThread(func() {
		ring := kerneltest.NewRing()
		defer ring.Close()
		ring.Submit(kerneltest.Submission{Opcode: kerneltest.RingRecv, FD: int32(fds[1]), Address: addressOf(&buffer), Length: 5})
		unix.Write(fds[0], []byte("hello"))
		if n := ring.Next().Result; n != 5 {
			t.Errorf("the request ended with %d", n)
		}
	})
	var got []deed
	for _, tr := range o.by(t, thread) {
		if d := deedOf(tr); (d.Syscall == "write" || d.Syscall == "") && tr.function() != "sock_from_file" {
			got = append(got, d)
		}
	}
	want := []deed{{Syscall: "write", FD: int64(fds[0]), Bytes: int64(5), Transport: "unix", Kept: "slow"}}
	behind := deed{Syscall: "write", Kept: "slow"}
	if runtime.GOARCH == "arm64" {
		behind.Syscall = "" // arm64 has overwritten the number of the system call by then
	}
	if o.functions() {
		want = append(want, behind)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}
