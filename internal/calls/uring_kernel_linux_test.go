package calls

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// oldWorkers are the names of an io_uring's workers before Linux 5.12: they are
// threads of the kernel, each a process of its own.
var oldWorkers = []string{"io_wqe_worker-0", "io_wqe_worker-1"}

// rooted is a deed, by what function, and by what process.
type rooted struct {
	Function string
	Deed     deed
	PID      any
}

func requireRing(t testing.TB) {
	t.Helper()
	if err := kerneltest.HasRing(); err != nil {
		t.Skipf("io_uring is off: %v", err)
	}
}

// throughRing sends and receives through an io_uring: in its system call, and by
// workers of its.
func throughRing(t testing.TB, o *observer) {
	requireRing(t)
	client, server := connectTCP(t)
	o.want(t, Options{Filter: Filter{PIDs: []uint32{}, Commands: append(oldWorkers, comm(t))}})
	var workers map[int]int
	thread := onThread(func() {
		ring := kerneltest.NewRing()
		defer ring.Close()
		exchangeThrough(t, ring, client, server, 0)
		exchangeThrough(t, ring, client, server, kerneltest.RingAsync)
		workers = ringWorkers()
	})
	if len(workers) == 0 {
		t.Fatal("no worker did anything")
	}
	pid := os.Getpid()
	var inCall, byWorkers []rooted
	for _, tr := range o.collect(t) {
		r := rooted{Function: tr.root.Name(), Deed: deedOf(tr), PID: value(tr.resource, "process.pid")}
		id, _ := tr.value("nettap.thread.id").(int64)
		if r.Function == "sock_from_file" || r.Function == "sock_poll" {
			continue // nothing comes or goes in it
		}
		if int(id) == thread {
			inCall = append(inCall, r)
		}
		if process, ok := workers[int(id)]; ok {
			byWorkers = append(byWorkers, r)
			pid = process
		}
	}
	wantInCall, wantByWorkers := o.ofRing(pid)
	if diff := gocmp.Diff(wantInCall, inCall); diff != "" {
		t.Errorf("calls of the thread differ (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(wantByWorkers, byWorkers); diff != "" {
		t.Errorf("calls of the workers differ (-want +got):\n%s", diff)
	}
}

// ofRing is what there is to be seen of a send and a receive through an io_uring: in
// its system call, and by workers that are in process pid.
func (o *observer) ofRing(pid int) (inCall, byWorkers []rooted) {
	if !o.functions() {
		call := rooted{wrapperOf(unix.SYS_IO_URING_ENTER), deed{Syscall: "io_uring_enter", Kept: "slow"}, int64(os.Getpid())}
		inCall = []rooted{call}
		isLength := func(hook kernel.Hook) bool { return hook.Name == "tp_btf/sock_recv_length" }
		if slices.ContainsFunc(o.books.Read().Hooks, isLength) { // else nothing tells that it was on a socket
			inCall = append(inCall, call)
		}
		return inCall, nil
	}
	for _, name := range []string{"sock_sendmsg", "sock_recvmsg"} {
		inCall = append(inCall, rooted{name, deed{Syscall: "io_uring_enter", Kept: "slow"}, int64(os.Getpid())})
		byWorkers = append(byWorkers, rooted{name, deed{Kept: "slow"}, int64(pid)})
	}
	return inCall, byWorkers
}

func exchangeThrough(t testing.TB, ring *kerneltest.Ring, client, server int, flags uint8) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	buffer := make([]byte, 5)
	pinner.Pin(&buffer[0])
	address := uint64(uintptr(unsafe.Pointer(&buffer[0])))
	do := func(opcode uint8, fd int) {
		s := kerneltest.Submission{Opcode: opcode, Flags: flags, FD: int32(fd), Address: address, Length: uint32(len(buffer))}
		if c := ring.Do(s); int(c.Result) != len(buffer) {
			t.Errorf("request %d ended with %d", opcode, c.Result)
		}
	}
	do(kerneltest.RingSend, client)
	// A request that has to wait is carried out by whatever thread is there then.
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(server), Events: unix.POLLIN}}, 10_000); n != 1 {
		t.Errorf("nothing came: %v", err)
	}
	do(kerneltest.RingRecv, server)
}

// behindAnother lets a request wait for what its own thread writes: it is carried out
// when that call has returned, and before the thread goes on.
func behindAnother(t testing.TB, o *observer) {
	requireRing(t)
	fds := pair(t, unix.SOCK_STREAM)
	var pinner runtime.Pinner
	defer pinner.Unpin()
	buffer := make([]byte, 5)
	pinner.Pin(&buffer[0])
	receive := kerneltest.Submission{
		Opcode: kerneltest.RingRecv, FD: int32(fds[1]), Address: uint64(uintptr(unsafe.Pointer(&buffer[0]))), Length: uint32(len(buffer)),
	}
	o.want(t, Options{})
	thread := onThread(func() {
		ring := kerneltest.NewRing()
		defer ring.Close()
		ring.Submit(receive)
		unix.Write(fds[0], buffer)
		if n := ring.Next().Result; int(n) != len(buffer) {
			t.Errorf("the request ended with %d", n)
		}
	})
	var got []deed
	for _, tr := range o.by(t, thread) {
		if d := deedOf(tr); d.Syscall == "write" && tr.root.Name() != "sock_from_file" && tr.root.Name() != "sock_poll" {
			got = append(got, d)
		}
	}
	want := []deed{{Syscall: "write", FD: int64(fds[0]), Bytes: int64(5), Transport: "unix", Kept: "slow"}}
	if o.functions() {
		want = append(want, deed{Syscall: "write", Kept: "slow"})
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

// ringWorkers returns the threads that work for this process's io_urings, and the
// process that each is in.
func ringWorkers() map[int]int {
	workers := map[int]int{}
	for _, path := range append(must(filepath.Glob("/proc/self/task/*/comm")), must(filepath.Glob("/proc/[0-9]*/comm"))...) {
		content, _ := os.ReadFile(path) // it may be gone
		name := strings.TrimSpace(string(content))
		thread, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if strings.HasPrefix(name, "iou-wrk-") {
			workers[thread] = os.Getpid()
		}
		if slices.Contains(oldWorkers, name) {
			workers[thread] = thread
		}
	}
	return workers
}
